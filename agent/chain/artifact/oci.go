package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxManifest bounds an index or a manifest, in bytes. Registries accept 4 MiB.
const maxManifest = 4 << 20

// layout is an OCI image layout on disk (image-spec, image-layout.md). Every blob is what its digest says.
type layout struct{ root *os.Root }

// fromLayout takes an object out of an image. Names cannot lead out of the layout's folder.
func fromLayout(folder, tag, inside string) (data []byte, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	l := layout{root}
	m, err := l.manifest(tag)
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	return l.object(m, inside)
}

// manifest finds an image.
func (l layout) manifest(tag string) (*v1.Manifest, error) {
	var index v1.Index
	if err := l.decode(v1.ImageIndexFile, &index); err != nil {
		return nil, err
	}
	named := slices.DeleteFunc(slices.Clone(index.Manifests), func(d v1.Descriptor) bool {
		return tag != "" && d.Annotations[v1.AnnotationRefName] != tag
	})
	if len(named) != 1 {
		return nil, fmt.Errorf("%d of its %d images have the tag %q; want one", len(named), len(index.Manifests), tag)
	}
	d := named[0]
	if d.MediaType == v1.MediaTypeImageIndex { // one image for each architecture
		var err error
		if d, err = l.forHere(d); err != nil {
			return nil, err
		}
	}
	var m v1.Manifest
	return &m, l.decodeBlob(d, &m)
}

// forHere finds this machine's image.
func (l layout) forHere(d v1.Descriptor) (v1.Descriptor, error) {
	var index v1.Index
	if err := l.decodeBlob(d, &index); err != nil {
		return d, err
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS == "linux" && m.Platform.Architecture == runtime.GOARCH {
			return m, nil
		}
	}
	return d, fmt.Errorf("it has no image for linux/%s", runtime.GOARCH)
}

// object takes the object out of an image's layers, which are archives or, as other tools make them, the
// file itself with its name in an annotation.
func (l layout) object(m *v1.Manifest, inside string) ([]byte, error) {
	var why []error
	for _, d := range m.Layers {
		title := d.Annotations[v1.AnnotationTitle]
		data, err := l.blob(d, maxArchive)
		if err != nil {
			return nil, err
		}
		if isELF(data) {
			if inside == "" || path.Clean(title) == inside {
				return data, nil
			}
			continue
		}
		object, err := unpack(data, inside)
		if err == nil {
			return object, nil
		}
		why = append(why, fmt.Errorf("layer %s: %w", d.Digest, err))
	}
	return nil, errors.Join(append(why, errors.New("no layer of the image has the object"))...)
}

// blob reads what a descriptor describes.
func (l layout) blob(d v1.Descriptor, limit int64) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", d.Digest, d.Size, limit)
	}
	data, err := l.read(path.Join(v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded()), limit)
	if err != nil {
		return nil, err
	}
	if got := d.Digest.Algorithm().FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("%w: blob %s, want %s", ErrChecksum, got, d.Digest)
	}
	return data, nil
}

func (l layout) decodeBlob(d v1.Descriptor, to any) error {
	data, err := l.blob(d, maxManifest)
	if err != nil {
		return err
	}
	return unmarshal(d.Digest.String(), data, to)
}

func (l layout) decode(name string, to any) error {
	data, err := l.read(name, maxManifest)
	if err != nil {
		return err
	}
	return unmarshal(name, data, to)
}

func unmarshal(name string, data []byte, to any) error {
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (l layout) read(name string, limit int64) ([]byte, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, err
}
