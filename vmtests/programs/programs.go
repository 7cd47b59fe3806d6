// Package programs finds what guests need to run programs of the host, which hold nothing but weir: each
// file by its own path, with the interpreters and shared libraries that it needs.
package programs

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/vmtests/initramfs"
)

// MaxSize bounds what is taken into a guest, in bytes: it lies in the guest's memory.
const MaxSize = 64 << 20

// loaderLimit is how long a dynamic loader may take to name libraries.
const loaderLimit = 10 * time.Second

// Find finds programs by their names, as a shell does, and other files by absolute paths, and returns them
// with what they need, in the order of their paths. What is not there is left out: scenarios that need it are
// skipped, and say so.
func Find(ctx context.Context, names []string) (all []initramfs.File, err error) {
	found := map[string]initramfs.File{}
	for _, name := range names {
		path, err := locate(name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			continue
		}
		if err == nil {
			err = add(ctx, path, found)
		}
		if err != nil {
			return nil, fmt.Errorf("take %s into guests: %w", name, err)
		}
	}
	size := 0
	for _, path := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[path])
		size += len(found[path].Body)
	}
	if size > MaxSize {
		return nil, fmt.Errorf("take %s into guests: %d bytes with their libraries; want at most %d",
			strings.Join(names, ", "), size, MaxSize)
	}
	return all, nil
}

func locate(name string) (string, error) {
	if !strings.Contains(name, "/") {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", err
		}
		return filepath.Abs(path)
	}
	if !filepath.IsAbs(name) {
		return "", errors.New("want a name or an absolute path: guests have no working folder")
	}
	_, err := os.Stat(name)
	return name, err
}

// add reads a file, and those that it needs.
func add(ctx context.Context, path string, found map[string]initramfs.File) error {
	if _, ok := found[path]; ok {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	found[path] = initramfs.File{Path: path, Mode: info.Mode().Perm(), Body: body}
	others, err := behind(ctx, path, body)
	if err != nil {
		return err
	}
	for _, other := range others {
		if err := add(ctx, other, found); err != nil {
			return err
		}
	}
	return nil
}

// behind are the files that one needs directly: of a script its interpreter, of a dynamic binary its loader
// and its libraries, which the loader knows best.
func behind(ctx context.Context, path string, body []byte) ([]string, error) {
	if bytes.HasPrefix(body, []byte("#!")) {
		return interpreter(body)
	}
	if !bytes.HasPrefix(body, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	loader, err := loaderOf(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if loader == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loaderLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, loader, "--list", path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ask %s for the libraries of %s: %w: %s", loader, path, err, bytes.TrimSpace(out))
	}
	libraries, err := readList(string(out))
	if err != nil {
		return nil, fmt.Errorf("the libraries of %s: %w", path, err)
	}
	return append(libraries, loader), nil
}

// interpreter reads the first line of a script. Behind env(1) is the program's name.
func interpreter(body []byte) ([]string, error) {
	line, _, _ := bytes.Cut(body[2:], []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		return nil, errors.New("a script without an interpreter in its first line")
	}
	all := words[:1]
	if filepath.Base(words[0]) == "env" && len(words) > 1 {
		path, err := exec.LookPath(words[1])
		if err != nil {
			return nil, err
		}
		all = append(all, path)
	}
	return all, nil
}

// loaderOf is the dynamic loader of an ELF binary, "" for a static one or a library.
func loaderOf(body []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, min(p.Filesz, 4096))
		if _, err := p.ReadAt(name, 0); err != nil {
			return "", err
		}
		return string(bytes.TrimRight(name, "\x00")), nil
	}
	return "", nil
}

// readList reads what a loader lists: "name => path (address)", or "path (address)". What the kernel
// gives every process has no path.
func readList(text string) (paths []string, err error) {
	for line := range strings.Lines(text) {
		name, path, found := strings.Cut(strings.TrimSpace(line), " => ")
		if !found {
			path = name
		}
		if path == "not found" {
			return nil, fmt.Errorf("%s is not there", name)
		}
		path, _, _ = strings.Cut(path, " (")
		if filepath.IsAbs(path) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}
