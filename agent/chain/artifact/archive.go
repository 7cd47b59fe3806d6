package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Limits on what is read, in bytes.
const (
	maxObject  = 64 << 20  // objects with all debug information of large projects have a few MiB
	maxArchive = 256 << 20 // as it is fetched
	// maxRatio is how many times its size an archive may be when it is unpacked, once it is large: DEFLATE does
	// not reach more than 1032 (RFC 1951), object files compress 3 to 20 times.
	maxRatio   = 100
	smallRatio = 1 << 20 // the ratio does not matter below this size
)

var (
	errTooLarge = fmt.Errorf("it is larger than %d bytes", maxObject)
	errRatio    = fmt.Errorf("it is more than %d times as large when it is unpacked", maxRatio)
)

// isELF tells whether data may be an object as it is.
func isELF(data []byte) bool { return bytes.HasPrefix(data, []byte("\x7fELF")) }

// chosen tells whether a file in an archive is the one that is meant. Directories, links and devices never
// are: their contents are elsewhere.
func chosen(name, want string) bool {
	name = path.Clean(name)
	if want == "" {
		return strings.HasSuffix(name, ".o")
	}
	return name == want
}

// unpack takes a file out of an archive; with want empty the only one that ends in .o.
func unpack(data []byte, want string) ([]byte, error) {
	var found []byte
	var names []string
	take := func(name string, r io.Reader) error {
		if !chosen(name, want) {
			return nil
		}
		names = append(names, path.Clean(name))
		if len(names) > 1 {
			return fmt.Errorf("%s are both in it; name one behind a #", strings.Join(names, " and "))
		}
		var err error
		found, err = readAll(r)
		return err
	}
	err := each(data, take)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the archive: %w", err)
	case len(names) > 0:
		return found, nil
	case want == "":
		return nil, errors.New("no file in the archive ends in .o")
	}
	return nil, fmt.Errorf("there is no file %q in the archive", want)
}

// each calls fn for each regular file of an archive.
func each(data []byte, fn func(string, io.Reader) error) error {
	if bytes.HasPrefix(data, []byte("PK\x03\x04")) {
		return eachZip(data, fn)
	}
	var r io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) { // RFC 1952
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = z
	}
	t := tar.NewReader(&bounded{r: r, left: allowed(len(data))})
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := fn(h.Name, t); err != nil {
			return err
		}
	}
}

func eachZip(data []byte, fn func(string, io.Reader) error) error {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	left := allowed(len(data))
	for _, f := range z.File {
		if !f.Mode().IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		b := &bounded{r: r, left: left}
		err = fn(f.Name, b)
		left = b.left
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// allowed is how much may come out of an archive.
func allowed(packed int) int64 { return max(smallRatio, int64(packed)*maxRatio) }

// bounded reads at most so much, and fails where there is more.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errRatio
	}
	return n, err
}

// readAll reads an object.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxObject+1))
	if err == nil && len(data) > maxObject {
		err = errTooLarge
	}
	return data, err
}
