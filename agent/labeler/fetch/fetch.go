// Package fetch brings the providers' address ranges, from files or URLs. Each provider fails
// alone, and keeps what was known of it before.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/weirnet/weir/agent/labeler"
)

// Source is where a provider's file is: one of File and URL.
type Source struct {
	Provider labeler.Provider
	File     string
	URL      string
}

// Options say what is loaded.
type Options struct {
	Sources []Source
	// Cache is a folder in which fetched files and their ETags are kept, so that they are there
	// after a restart without the network; empty: none.
	Cache string
	// Client fetches; nil: one with a time-out of Timeout.
	Client *http.Client
}

// Bounds on fetching. The largest file, Azure's, has 4 MB.
const (
	Timeout = 30 * time.Second
	maxSize = 64 << 20
)

// Loader loads, and remembers what it has loaded. It is not safe for concurrent use.
type Loader struct {
	opts Options
	last map[labeler.Provider]labeler.File
	etag map[labeler.Provider]string
}

// New creates a Loader that has loaded nothing.
func New(o Options) *Loader {
	if o.Client == nil {
		o.Client = &http.Client{Timeout: Timeout}
	}
	return &Loader{opts: o, last: map[labeler.Provider]labeler.File{}, etag: map[labeler.Provider]string{}}
}

// Local loads what needs no network: files, and what an earlier run has fetched. Of a provider that
// fails, the error is told.
func (l *Loader) Local() (files []labeler.File, errs []error) { return l.each(l.local) }

// Load loads all files. Of a provider that fails, the error is told and its last file is given.
func (l *Loader) Load(ctx context.Context) (files []labeler.File, errs []error) {
	return l.each(func(s Source) error {
		if err := l.local(s); err != nil || s.File != "" {
			return err
		}
		return l.load(ctx, s)
	})
}

func (l *Loader) each(load func(Source) error) (files []labeler.File, errs []error) {
	for _, s := range l.opts.Sources {
		if err := load(s); err != nil {
			errs = append(errs, fmt.Errorf("address ranges of %s: %w", s.Provider, err))
		}
		if f, ok := l.last[s.Provider]; ok {
			files = append(files, f)
		}
	}
	return files, errs
}

// local reads a file, or the cache when nothing has been fetched yet.
func (l *Loader) local(s Source) error {
	if s.File != "" {
		data, err := os.ReadFile(s.File)
		if err != nil {
			return err
		}
		return l.take(s.Provider, data)
	}
	if _, known := l.last[s.Provider]; !known {
		l.restore(s.Provider)
	}
	return nil
}

// load fetches a URL.
func (l *Loader) load(ctx context.Context, s Source) error {
	data, etag, err := l.fetch(ctx, s)
	if err != nil || data == nil { // nil: it has not changed
		return err
	}
	if err := l.take(s.Provider, data); err != nil {
		return err
	}
	l.etag[s.Provider] = etag
	return l.store(s.Provider, data, etag)
}

func (l *Loader) take(p labeler.Provider, data []byte) error {
	f, err := labeler.ParseFile(p, data)
	if err == nil {
		l.last[p] = f
	}
	return err
}

// fetch gets a URL, unless it is what is known.
func (l *Loader) fetch(ctx context.Context, s Source) (data []byte, etag string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, "", err
	}
	if known := l.etag[s.Provider]; known != "" {
		r.Header.Set("If-None-Match", known)
	}
	answer, err := l.opts.Client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, "", nil
	default:
		return nil, "", fmt.Errorf("%s: %s", s.URL, answer.Status)
	}
	data, err = io.ReadAll(io.LimitReader(answer.Body, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("%s: more than %d bytes", s.URL, maxSize)
	}
	return data, answer.Header.Get("ETag"), err
}

// restore takes what an earlier run has fetched. What cannot be used is fetched anew.
func (l *Loader) restore(p labeler.Provider) {
	if l.opts.Cache == "" {
		return
	}
	data, err := os.ReadFile(l.cached(p, "json"))
	if err != nil || l.take(p, data) != nil {
		return
	}
	if etag, err := os.ReadFile(l.cached(p, "etag")); err == nil {
		l.etag[p] = string(etag)
	}
}

// store keeps what was fetched for a later run. The ETag goes first and comes last: it must never
// be that of another file.
func (l *Loader) store(p labeler.Provider, data []byte, etag string) error {
	if l.opts.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(l.opts.Cache, 0o755); err != nil {
		return err
	}
	if err := os.Remove(l.cached(p, "etag")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fresh := l.cached(p, "new")
	if err := os.WriteFile(fresh, data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(fresh, l.cached(p, "json")); err != nil {
		return err
	}
	return os.WriteFile(l.cached(p, "etag"), []byte(etag), 0o644)
}

func (l *Loader) cached(p labeler.Provider, kind string) string {
	return filepath.Join(l.opts.Cache, string(p)+"."+kind)
}
