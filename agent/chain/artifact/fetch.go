package artifact

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrChecksum is returned for an object that is not the one that was asked for.
	ErrChecksum = errors.New("the checksum is another")
	// ErrUnpinned is returned for a remote object without a checksum.
	ErrUnpinned = errors.New("an object from a server needs its sha256")
)

// Fetcher gets objects.
type Fetcher struct {
	// Cache is a folder for what servers have sent, by checksum; empty: there is none.
	Cache string
	// Keys, if there are any, have signed every object: see Signed.
	Keys []Key
	// Client sends requests; nil: one with TLS 1.2 or later, that gives up after Timeout.
	Client *http.Client
}

// Timeout is how long a server may take to send an object.
const Timeout = 2 * time.Minute

// Object is an object as it was read.
type Object struct {
	Data []byte
	Sum  string // SHA-256, in hexadecimal
}

// Get gets an object. Remote ones must be pinned: their checksum, SHA-256 in hexadecimal, is not empty.
// What has another checksum, or no signature of a key where there are keys, is refused.
func (f *Fetcher) Get(ctx context.Context, s Source, sum string, signature Source) (*Object, error) {
	return f.get(ctx, s, sum, signature, func(data []byte) error {
		if !isELF(data) {
			return errors.New("it is no eBPF object: it is not in ELF format")
		}
		return nil
	})
}

// Executable gets a file that is to be executed, under the same conditions as an object. A file on this host, outside of
// an archive, must be executable for somebody.
func (f *Fetcher) Executable(ctx context.Context, s Source, sum string, signature Source) (*Object, error) {
	if s.scheme == "" && s.inside == "" {
		if err := s.executable(); err != nil {
			return nil, unnamed(err)
		}
	}
	return f.get(ctx, s, sum, signature, func([]byte) error { return nil })
}

// executable tells whether a file has the permission.
func (s Source) executable() (err error) {
	file, err := s.open()
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && info.Mode().Perm()&0o111 == 0 {
		err = errors.New("it is not executable")
	}
	return err
}

// get gets what fits.
func (f *Fetcher) get(ctx context.Context, s Source, sum string, signature Source, fits func([]byte) error) (*Object, error) {
	if s.Remote() && sum == "" {
		return nil, ErrUnpinned
	}
	data, cached := f.cached(s, sum)
	if !cached {
		var err error
		if data, err = f.read(ctx, s); err != nil {
			return nil, err
		}
	}
	o := &Object{data, sumOf(data)}
	if sum != "" && sum != o.Sum {
		return nil, fmt.Errorf("%w: sha256 %s, want %s", ErrChecksum, o.Sum, sum)
	}
	if err := fits(data); err != nil {
		return nil, err
	}
	if err := f.check(ctx, o, signature); err != nil {
		return nil, err
	}
	if s.Remote() && !cached {
		return o, f.keep(o.Sum, o.Data)
	}
	return o, nil
}

// Read reads what is at a source, without the checks of Get.
func (f *Fetcher) Read(ctx context.Context, s Source) (*Object, error) {
	data, err := f.read(ctx, s)
	if err != nil {
		return nil, err
	}
	return &Object{data, sumOf(data)}, nil
}

// unnamed leaves a file's name out of an error: the caller tells which object it is about.
func unnamed(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	return err
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (f *Fetcher) read(ctx context.Context, s Source) (data []byte, err error) {
	switch {
	case s.scheme == schemeOCI:
		return fromLayout(s.place, s.tag, s.inside)
	case s.Remote():
		data, err = f.download(ctx, s.place)
	default:
		data, err = s.readFile()
		err = unnamed(err)
	}
	switch {
	case err != nil:
		return nil, err
	case s.inside != "":
		return unpack(data, s.inside)
	case len(data) > maxObject:
		return nil, errTooLarge
	}
	return data, nil
}

// open opens a file.
func (s Source) open() (_ *os.File, err error) {
	const flags = os.O_RDONLY | unix.O_NONBLOCK // which does not wait for a named pipe's writer
	if s.root == "" {
		return os.OpenFile(s.place, flags, 0)
	}
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	file, err := root.OpenFile(s.place, flags, 0)
	return file, errors.Join(err, root.Close())
}

func (s Source) readFile() ([]byte, error) {
	file, err := s.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("it is no regular file"), err)
	}
	return readBounded(file)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxArchive+1))
	if err == nil && len(data) > maxArchive {
		err = fmt.Errorf("it is larger than %d bytes", maxArchive)
	}
	return data, err
}

func (f *Fetcher) client() *http.Client {
	if f.Client != nil {
		return f.Client
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: t, CheckRedirect: stayEncrypted}
}

// maxRedirects is how often a server may send us on.
const maxRedirects = 10

// stayEncrypted follows no redirect from https to http.
func stayEncrypted(to *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("it was redirected %d times", maxRedirects)
	}
	if via[0].URL.Scheme == schemeHTTPS && to.URL.Scheme != schemeHTTPS {
		return fmt.Errorf("it redirects to %s, which is not encrypted", to.URL.Redacted())
	}
	return nil
}

func (f *Fetcher) download(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := f.client()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server says %s", resp.Status)
	}
	return readBounded(resp.Body)
}

// cached looks a remote object up that was fetched before. One that is damaged is fetched again.
func (f *Fetcher) cached(s Source, sum string) ([]byte, bool) {
	if f.Cache == "" || !s.Remote() {
		return nil, false
	}
	data, err := Source{place: filepath.Join(f.Cache, sum)}.readFile()
	return data, err == nil && sumOf(data) == sum
}

// keep puts an object into the cache, so that it is there when its server is not, as after a boot.
func (f *Fetcher) keep(name string, data []byte) error {
	if f.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(f.Cache, 0o700); err != nil {
		return fmt.Errorf("make the folder for objects: %w", err)
	}
	file, err := os.CreateTemp(f.Cache, ".new-*")
	if err != nil {
		return fmt.Errorf("keep the object: %w", err)
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(f.Cache, name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the object: %w", err), os.Remove(file.Name()))
	}
	return nil
}
