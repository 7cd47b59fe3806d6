package artifact

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"
)

// Source says where an object is. Its text is one of
//
//	/path/to/limit.o                     a file
//	https://host/limit.o                 what a server has; also http://
//	oci:/path/to/layout                  the only image of an OCI image layout
//	oci:/path/to/layout:tag              the one with this tag
//
// each, when the object is in an archive (tar, tar.gz, zip) or an image, with its name there behind a #:
// https://host/limit.tar.gz#limit/limit.o. Without a name, an image's only file that ends in .o is meant.
type Source struct {
	scheme string // "", http, https or oci
	place  string // path or URL, without the fragment
	tag    string // of an OCI image; empty: it is the only one
	inside string // name in an archive; empty: there is no archive
	root   string // folder that a file's path is relative to, and that links do not lead out of; empty: it is absolute
}

// Schemes of remote sources and image layouts.
const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	schemeOCI   = "oci"
)

// Parse reads a source. Paths must be absolute.
func Parse(text string) (Source, error) {
	place, inside, archived := strings.Cut(text, "#")
	if archived && (inside == "" || inside != path.Clean(inside) || !filepath.IsLocal(inside)) {
		return Source{}, fmt.Errorf("%q after # is no name in an archive; want one like limit/limit.o", inside)
	}
	s := Source{place: place, inside: inside}
	scheme, rest, found := strings.Cut(place, ":")
	switch {
	case found && scheme == schemeOCI:
		s.scheme = schemeOCI
		s.place, s.tag, _ = strings.Cut(rest, ":")
	case found && (scheme == schemeHTTP || scheme == schemeHTTPS):
		s.scheme = scheme
		return s, checkURL(place)
	}
	if !filepath.IsAbs(s.place) {
		return Source{}, fmt.Errorf("%q is not an absolute path, an http(s) URL or oci:FOLDER[:TAG]", s.place)
	}
	return s, nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Host == "":
		return fmt.Errorf("%q names no host", text)
	case u.User != nil:
		return errors.New("a URL with a password would be written to logs and the store; leave it out")
	}
	return nil
}

// Remote tells whether what is there can change without anybody on this host doing so, or go away.
func (s Source) Remote() bool { return s.scheme == schemeHTTP || s.scheme == schemeHTTPS }

// Rooted makes the path of a local source absolute, below a folder.
func Rooted(text, folder string) string {
	prefix, place := "", text
	switch scheme, rest, found := strings.Cut(text, ":"); {
	case found && (scheme == schemeHTTP || scheme == schemeHTTPS):
		return text
	case found && scheme == schemeOCI:
		prefix, place = schemeOCI+":", rest
	}
	if place == "" || filepath.IsAbs(place) {
		return text
	}
	return prefix + filepath.Join(folder, place)
}

// Executable says where a file is that belongs to an object, and where its signature is: an absolute path is that of a
// file on this host, and everything else a name inside of what the object is in, an archive, an image, or a folder. The
// signature is beside it, with .sig behind its name.
func (s Source) Executable(name string) (file, signature Source, err error) {
	const suffix = ".sig"
	switch {
	case filepath.IsAbs(name):
		return Source{place: name}, Source{place: name + suffix}, nil
	case !filepath.IsLocal(name) || name != path.Clean(name):
		return file, signature, fmt.Errorf("%q leads out of the artifact", name)
	case s.inside != "" || s.scheme == schemeOCI:
		file, signature = s, s
		file.inside, signature.inside = name, name+suffix
		return file, signature, nil
	case s.Remote():
		return file, signature, fmt.Errorf("%q is inside of nothing: the object is no archive", name)
	}
	folder := filepath.Dir(s.place)
	return Source{place: name, root: folder}, Source{place: name + suffix, root: folder}, nil
}
