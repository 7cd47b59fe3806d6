package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// elf stands for an object: nobody looks behind its first bytes here.
func elf(text string) []byte { return []byte("\x7fELF" + text) }

func source(t testing.TB, text string) Source {
	t.Helper()
	s, err := Parse(text)
	require.NoError(t, err)
	return s
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, data, 0o644))
	return name
}

// file is a file in an archive.
type file struct {
	name string
	data []byte
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o644}))
		_, err := w.Write(f.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

func zipOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		part, err := w.Create(f.name)
		require.NoError(t, err)
		_, err = part.Write(f.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Source{
		"/a/b.o":                           {place: "/a/b.o"},
		"/a/b.tar.gz#c/d.o":                {place: "/a/b.tar.gz", inside: "c/d.o"},
		"https://host:8443/b.o":            {scheme: "https", place: "https://host:8443/b.o"},
		"http://host/b.zip?version=2#d.o":  {scheme: "http", place: "http://host/b.zip?version=2", inside: "d.o"},
		"oci:/images/limit":                {scheme: "oci", place: "/images/limit"},
		"oci:/images/limit:v2#bin/limit.o": {scheme: "oci", place: "/images/limit", tag: "v2", inside: "bin/limit.o"},
	} {
		require.Equal(t, want, source(t, text), text)
	}
	for _, text := range []string{"", "b.o", "oci:", "oci:b", "ftp://host/b.o", "https://", "https://user:secret@host/b.o",
		"https:///b.o", "/a.tar#", "/a.tar#../b.o", "/a.tar#/b.o", "/a.tar#b/../c.o"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}

func TestRooted(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "",
		"b.o":               "/etc/b.o",
		"../b.tar#c.o":      "/b.tar#c.o",
		"/b.o":              "/b.o",
		"oci:images:v1#b.o": "oci:/etc/images:v1#b.o",
		"oci:/images":       "oci:/images",
		"https://host/b.o":  "https://host/b.o",
	} {
		require.Equal(t, want, Rooted(text, "/etc"), text)
	}
}

// layoutOf makes an OCI image layout with an image of these layers for this machine, behind an index or not.
func layoutOf(t testing.TB, tag string, indexed bool, layers ...v1.Descriptor) string {
	t.Helper()
	dir := t.TempDir()
	put := func(mediaType string, v any) v1.Descriptor {
		data, err := json.Marshal(v)
		require.NoError(t, err)
		d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		write(t, filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded()), data)
		return d
	}
	for i := range layers {
		write(t, filepath.Join(dir, "blobs", "sha256", layers[i].Digest.Encoded()), layers[i].Data)
		layers[i].Data = nil
	}
	versioned := specs.Versioned{SchemaVersion: 2}
	image := put(v1.MediaTypeImageManifest, v1.Manifest{Versioned: versioned, Layers: layers})
	if indexed {
		image.Platform = &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
		other := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString("other"), Size: 5,
			Platform: &v1.Platform{OS: "linux", Architecture: "other"}}
		image = put(v1.MediaTypeImageIndex, v1.Index{Versioned: versioned, Manifests: []v1.Descriptor{other, image}})
	}
	image.Annotations = map[string]string{v1.AnnotationRefName: tag}
	data, err := json.Marshal(v1.Index{Versioned: versioned, Manifests: []v1.Descriptor{image}})
	require.NoError(t, err)
	write(t, filepath.Join(dir, v1.ImageIndexFile), data)
	return dir
}

func layer(data []byte, title string) v1.Descriptor {
	d := v1.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(data), Size: int64(len(data)), Data: data}
	if title != "" {
		d.Annotations = map[string]string{v1.AnnotationTitle: title}
	}
	return d
}

// TestGet gets the same object from everywhere.
func TestGet(t *testing.T) {
	want := elf("the object")
	sum := sumOf(want)
	dir := t.TempDir()
	files := []file{{"limit/readme", []byte("text")}, {"./limit/limit.o", want}, {"limit/other.o", elf("other")}}
	for name, data := range map[string][]byte{"limit.o": want, "limit.tar": tarOf(t, files...),
		"limit.tar.gz": gzipOf(t, tarOf(t, files...)), "limit.zip": zipOf(t, files...)} {
		write(t, filepath.Join(dir, name), data)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	image := gzipOf(t, tarOf(t, files[:2]...))
	var f Fetcher
	for _, text := range []string{
		dir + "/limit.o", dir + "/limit.tar#limit/limit.o", dir + "/limit.tar.gz#limit/limit.o",
		dir + "/limit.zip#limit/limit.o",
		server.URL + "/limit.o", server.URL + "/limit.tar.gz#limit/limit.o",
		"oci:" + layoutOf(t, "v1", false, layer([]byte("no object"), ""), layer(image, "")),
		"oci:" + layoutOf(t, "v1", true, layer(image, "")) + ":v1#limit/limit.o",
		"oci:" + layoutOf(t, "v1", false, layer(elf("other"), "other.o"), layer(want, "limit.o")) + "#limit.o",
	} {
		o, err := f.Get(t.Context(), source(t, text), sum, Source{})
		require.NoError(t, err, text)
		require.Equal(t, &Object{want, sum}, o, text)
		_, err = f.Get(t.Context(), source(t, text), sumOf(nil), Source{})
		require.ErrorIs(t, err, ErrChecksum, text)
	}
	_, err := f.Get(t.Context(), source(t, server.URL+"/limit.o"), "", Source{})
	require.ErrorIs(t, err, ErrUnpinned)
	_, err = f.Get(t.Context(), source(t, dir+"/limit.o"), "", Source{})
	require.NoError(t, err, "a file needs no checksum")
}

// TestRefuses holds what cannot be had, or is not to be trusted.
func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	bomb := gzipOf(t, tarOf(t, file{"a", make([]byte, 8<<20)}))
	require.Less(t, len(bomb)*maxRatio, 8<<20)
	require.NoError(t, unix.Mkfifo(dir+"/pipe", 0o600))
	changed := layoutOf(t, "v1", false, layer(elf("object"), "a.o"))
	write(t, filepath.Join(changed, "blobs", "sha256", digest.FromBytes(elf("object")).Encoded()), elf("changed"))
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var f Fetcher
	for text, want := range map[string]string{
		dir + "/nowhere.o":                       "no such file",
		dir:                                      "is no regular file",
		dir + "/pipe":                            "is no regular file",
		write(t, dir+"/text", []byte("text")):    "not in ELF format",
		write(t, dir+"/bomb.gz", bomb) + "#a":    "100 times as large",
		write(t, dir+"/bad.gz", bomb[:9]) + "#a": "read the archive",
		write(t, dir+"/a.tar", tarOf(t, file{"a", nil})) + "#b":                       `no file "b"`,
		write(t, dir+"/twice.tar", tarOf(t, file{"a", nil}, file{"./a", nil})) + "#a": "both in it",
		server.URL + "/limit.o": "404",
		"oci:" + dir:            "index.json",
		"oci:" + layoutOf(t, "v1", false, layer(elf(""), "a.o")) + ":v2":       `0 of its 1 images have the tag "v2"`,
		"oci:" + layoutOf(t, "v1", false, layer(elf(""), "a.o")) + "#b.o":      "no layer of the image",
		"oci:" + layoutOf(t, "v1", false, layer(tarOf(t, file{"a", nil}), "")): "no file in the archive ends in .o",
		"oci:" + changed: "checksum is another",
	} {
		s, sum := source(t, text), ""
		if s.Remote() {
			sum = sumOf(nil)
		}
		_, err := f.Get(t.Context(), s, sum, Source{})
		require.ErrorContains(t, err, want, text)
	}
}

// TestLinksAreNotFollowed: neither in an archive nor out of a layout.
func TestLinksAreNotFollowed(t *testing.T) {
	secret := write(t, t.TempDir()+"/secret", elf("secret"))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "a.o", Typeflag: tar.TypeSymlink, Linkname: secret}))
	require.NoError(t, w.Close())
	_, err := unpack(b.Bytes(), "a.o")
	require.ErrorContains(t, err, `no file "a.o"`)

	dir := layoutOf(t, "v1", false, layer(elf("secret"), "a.o"))
	blob := filepath.Join(dir, "blobs", "sha256", digest.FromBytes(elf("secret")).Encoded())
	require.NoError(t, os.Remove(blob))
	require.NoError(t, os.Symlink(secret, blob))
	var f Fetcher
	_, err = f.Read(t.Context(), source(t, "oci:"+dir))
	require.ErrorContains(t, err, "escapes")
}

// TestRedirectStaysEncrypted: from https nobody is sent to http.
func TestRedirectStaysEncrypted(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer server.Close()
	client := server.Client()
	client.CheckRedirect = (&Fetcher{}).client().CheckRedirect
	f := Fetcher{Client: client}
	_, err := f.Read(t.Context(), source(t, server.URL+"/a.o"))
	require.ErrorContains(t, err, "which is not encrypted")
}

// TestCache: what a server has sent is there when the server is not, unless it has been damaged.
func TestCache(t *testing.T) {
	want := elf("object")
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		_, _ = w.Write(want)
	}))
	f := Fetcher{Cache: t.TempDir() + "/objects"}
	get := func() error {
		o, err := f.Get(t.Context(), source(t, server.URL+"/a.o"), sumOf(want), Source{})
		require.True(t, err != nil || bytes.Equal(want, o.Data))
		return err
	}
	require.NoError(t, get())
	require.NoError(t, get())
	require.Equal(t, 1, requests)
	write(t, filepath.Join(f.Cache, sumOf(want)), elf("damaged"))
	require.NoError(t, get())
	require.Equal(t, 2, requests)
	server.Close()
	require.NoError(t, get())
	write(t, filepath.Join(f.Cache, sumOf(want)), elf("damaged"))
	require.Error(t, get())
	left, err := os.ReadDir(f.Cache)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// keyPair makes a key, and the file of its public part.
func keyPair(t *testing.T) (file string, private ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return keyFile(t, public), private
}

func keyFile(t testing.TB, public crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return write(t, t.TempDir()+"/key.pem", text)
}

func TestSignatures(t *testing.T) {
	ours, private := keyPair(t)
	theirs, foreign := keyPair(t)
	keys, err := ReadKeys([]string{theirs, ours})
	require.NoError(t, err)
	object := elf("object")
	dir := t.TempDir()
	s := source(t, write(t, dir+"/a.o", object))
	f := Fetcher{Keys: keys[1:]}
	get := func(signature []byte) error {
		write(t, dir+"/a.o.sig", signature)
		at, ok := s.Signature()
		require.True(t, ok)
		_, err := f.Get(t.Context(), s, "", at)
		return err
	}
	good := ed25519.Sign(private, object)
	require.NoError(t, get(good))
	require.NoError(t, get([]byte(base64.StdEncoding.EncodeToString(good)+"\n")))
	for _, bad := range [][]byte{nil, good[:63], ed25519.Sign(foreign, object), ed25519.Sign(private, elf("other")), []byte("?")} {
		require.ErrorIs(t, get(bad), ErrSignature)
	}
	require.NoError(t, os.Remove(dir+"/a.o.sig"))
	at, _ := s.Signature()
	_, err = f.Get(t.Context(), s, "", at)
	require.ErrorIs(t, err, ErrSignature)

	image := source(t, "oci:"+layoutOf(t, "v1", false, layer(object, "a.o")))
	_, beside := image.Signature()
	require.False(t, beside)
	_, err = f.Get(t.Context(), image, "", Source{})
	require.ErrorIs(t, err, ErrSignature)
	_, err = f.Get(t.Context(), image, "", source(t, write(t, dir+"/a.sig", good)))
	require.NoError(t, err)
}

// bundleOf is what `cosign sign-blob --bundle` writes, as far as it is read here.
func bundleOf(t testing.TB, object, signature []byte, algorithm string) []byte {
	t.Helper()
	sum := sha256.Sum256(object)
	text, err := json.Marshal(map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "ours"}},
		"messageSignature": map[string]any{"signature": signature,
			"messageDigest": map[string]any{"algorithm": algorithm, "digest": sum[:]}},
	})
	require.NoError(t, err)
	return text
}

func TestBundles(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	theirs, _ := keyPair(t)
	keys, err := ReadKeys([]string{keyFile(t, private.Public()), theirs})
	require.NoError(t, err)
	o, other := &Object{Data: elf("object")}, elf("other")
	sign := func(data []byte) []byte {
		sum := sha256.Sum256(data)
		s, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
		require.NoError(t, err)
		return s
	}
	good := sign(o.Data)
	for name, c := range map[string]struct {
		file []byte
		want bool
	}{
		"bundle":                {bundleOf(t, o.Data, good, "SHA2_256"), true},
		"with a new line":       {append(bundleOf(t, o.Data, good, "SHA2_256"), '\n'), true},
		"alone":                 {good, true},
		"base64":                {[]byte(base64.StdEncoding.EncodeToString(good)), true},
		"of another object":     {bundleOf(t, other, sign(other), "SHA2_256"), false},
		"another one's digest":  {bundleOf(t, other, good, "SHA2_256"), false},
		"another one's signing": {bundleOf(t, o.Data, sign(other), "SHA2_256"), false},
		"unknown digest":        {bundleOf(t, o.Data, good, "SHA2_512"), false},
		"cut off":               {bundleOf(t, o.Data, good, "SHA2_256")[:40], false},
		"no signature":          {[]byte(`{"dsseEnvelope": {}}`), false},
		"nothing":               {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, signed(o, c.file, keys))
			require.False(t, signed(o, c.file, keys[1:]), "who has not signed is not trusted")
		})
	}
}

// FuzzSignature: signatures come from outside.
func FuzzSignature(f *testing.F) {
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(f, err)
	o := &Object{Data: elf("object")}
	good := ed25519.Sign(private, o.Data)
	for _, data := range [][]byte{bundleOf(f, o.Data, good[1:], "SHA2_256"), []byte("{"), []byte("AAAA"), nil} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if signed(o, data, []Key{public}) {
			t.Fatal("nobody has signed this")
		}
	})
}

// TestSignatureIsKept: an object from a server is trusted after a boot without the server, and still not without
// the key.
func TestSignatureIsKept(t *testing.T) {
	file, private := keyPair(t)
	keys, err := ReadKeys([]string{file})
	require.NoError(t, err)
	dir := t.TempDir()
	object := elf("object")
	write(t, dir+"/a.o", object)
	write(t, dir+"/a.o.sig", ed25519.Sign(private, object))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	f := Fetcher{Cache: t.TempDir(), Keys: keys}
	s := source(t, server.URL+"/a.o")
	at, _ := s.Signature()
	_, err = f.Get(t.Context(), s, sumOf(object), at)
	require.NoError(t, err)
	server.Close()
	_, err = f.Get(t.Context(), s, sumOf(object), at)
	require.NoError(t, err)
	other, _ := keyPair(t)
	f.Keys, err = ReadKeys([]string{other})
	require.NoError(t, err)
	_, err = f.Get(t.Context(), s, sumOf(object), at)
	require.ErrorIs(t, err, ErrSignature)
}

func TestReadKeysRefuses(t *testing.T) {
	long, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	files := []string{keyFile(t, long.Public())}
	for _, text := range []string{"", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		files = append(files, write(t, t.TempDir()+"/key.pem", []byte(text)))
	}
	for _, file := range files {
		_, err := ReadKeys([]string{file})
		require.ErrorContains(t, err, file)
	}
	_, err = ReadKeys([]string{"/nowhere"})
	require.ErrorContains(t, err, "no such file")
}

// FuzzUnpack: archives come from outside.
func FuzzUnpack(f *testing.F) {
	files := []file{{"a", []byte("text")}, {"b.o", elf("")}}
	for _, data := range [][]byte{tarOf(f, files...), gzipOf(f, tarOf(f, files...)), zipOf(f, files...), nil} {
		f.Add(data, "b.o")
		f.Add(data, "")
	}
	f.Fuzz(func(t *testing.T, data []byte, want string) {
		object, err := unpack(data, want)
		require.True(t, err == nil || object == nil)
		require.LessOrEqual(t, int64(len(object)), allowed(len(data)))
	})
}

// FuzzParse: what a source is written as is what it is read from.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"/a.o", "https://host/a.tar#b.o", "oci:/a:b#c", "http://[::1]:80/"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(Rooted(text, "/folder"))
		require.NoError(t, err)
		require.Equal(t, s, again)
		require.NotContains(t, fmt.Sprint(s.place), "#")
	})
}

// FuzzLayout: an image layout's index comes from outside, and what it names.
func FuzzLayout(f *testing.F) {
	dir := layoutOf(f, "v1", false, layer(elf("object"), "a.o"))
	index, err := os.ReadFile(filepath.Join(dir, v1.ImageIndexFile))
	require.NoError(f, err)
	f.Add(index, "v1")
	f.Add([]byte(`{"manifests": [{"digest": "sha256:../../../../etc/passwd", "size": -1}]}`), "")
	f.Fuzz(func(t *testing.T, index []byte, tag string) {
		write(t, filepath.Join(dir, v1.ImageIndexFile), index)
		data, err := fromLayout(dir, tag, "")
		require.True(t, err != nil || bytes.Equal(data, elf("object")))
	})
}
