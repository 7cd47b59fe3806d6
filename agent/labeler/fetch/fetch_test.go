package fetch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/labeler"
)

const (
	google  = `{"prefixes":[{"ipv4Prefix":"8.8.8.0/24"}]}`
	google2 = `{"prefixes":[{"ipv4Prefix":"8.8.4.0/24"},{"ipv4Prefix":"8.8.8.0/24"}]}`
)

// site serves a text with an ETag that is the text's length.
type site struct {
	*httptest.Server
	text   string
	status int
	served []int // codes
}

func newSite(t *testing.T, text string) *site {
	s := &site{text: text, status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		etag := `"` + string(rune('a'+len(s.text)%26)) + `"`
		code := s.status
		if code == http.StatusOK && r.Header.Get("If-None-Match") == etag {
			code = http.StatusNotModified
		}
		w.Header().Set("ETag", etag)
		w.WriteHeader(code)
		s.served = append(s.served, code)
		if code == http.StatusOK {
			_, _ = w.Write([]byte(s.text))
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func prefixes(files []labeler.File) map[labeler.Provider]int {
	n := map[labeler.Provider]int{}
	for _, f := range files {
		n[f.Provider] = len(f.Entries)
	}
	return n
}

func TestEachProviderFailsAlone(t *testing.T) {
	s := newSite(t, google)
	path := filepath.Join(t.TempDir(), "aws.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"prefixes":[{"ip_prefix":"3.0.0.0/8"}]}`), 0o600))
	l := New(Options{Sources: []Source{{Provider: labeler.ProviderGoogle, URL: s.URL},
		{Provider: labeler.ProviderAWS, File: path}, {Provider: labeler.ProviderGCP, File: path + ".no"},
		{Provider: labeler.ProviderAzure, URL: "http://127.0.0.1:0/"}}})
	files, errs := l.Load(context.Background())
	require.Equal(t, map[labeler.Provider]int{"google": 1, "aws": 1}, prefixes(files))
	require.Len(t, errs, 2)
	require.ErrorIs(t, errs[0], os.ErrNotExist)
	require.ErrorContains(t, errs[1], "address ranges of azure: ")

	s.status = http.StatusInternalServerError // what was known stays
	require.NoError(t, os.WriteFile(path, []byte(`{}`), 0o600))
	files, errs = l.Load(context.Background())
	require.Equal(t, map[labeler.Provider]int{"google": 1, "aws": 1}, prefixes(files))
	require.Len(t, errs, 4)
	require.ErrorContains(t, errs[0], "500 Internal Server Error")
}

func TestETag(t *testing.T) {
	s := newSite(t, google)
	cache := filepath.Join(t.TempDir(), "cache")
	o := Options{Sources: []Source{{Provider: labeler.ProviderGoogle, URL: s.URL}}, Cache: cache}
	load := func(l *Loader) int {
		files, errs := l.Load(context.Background())
		require.Empty(t, errs)
		return prefixes(files)[labeler.ProviderGoogle]
	}
	l := New(o)
	require.Equal(t, 1, load(l))
	require.Equal(t, 1, load(l))
	require.Equal(t, 1, load(New(o)), "after a restart")
	s.text = google2
	require.Equal(t, 2, load(l))
	require.Equal(t, []int{200, 304, 304, 200}, s.served)

	files, errs := New(o).Local()
	require.Empty(t, errs)
	require.Equal(t, map[labeler.Provider]int{"google": 2}, prefixes(files), "before anything is asked for")

	s.Close() // without the network
	files, errs = New(o).Load(context.Background())
	require.Len(t, errs, 1)
	require.Equal(t, map[labeler.Provider]int{"google": 2}, prefixes(files))

	require.NoError(t, os.WriteFile(filepath.Join(cache, "google.json"), []byte("{"), 0o600))
	files, errs = New(o).Load(context.Background())
	require.Len(t, errs, 1)
	require.Empty(t, files, "a cache that is broken is not used")
}

func TestTooLarge(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range maxSize/len(chunk) + 1 {
			_, _ = w.Write(chunk)
		}
	}))
	defer s.Close()
	l := New(Options{Sources: []Source{{Provider: labeler.ProviderGoogle, URL: s.URL}}})
	_, errs := l.Load(context.Background())
	require.Len(t, errs, 1)
	require.ErrorContains(t, errs[0], "more than 67108864 bytes")
}
