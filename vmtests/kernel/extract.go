package kernel

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

const imageName = "vmlinuz"

// wanted matches what is kept of a package: modules that networking can need. The rest of a
// kernel package is drivers that a guest has no devices for.
var wanted = regexp.MustCompile(
	`^lib/modules/[^/]+/(modules\.builtin|kernel/(net|drivers/net|lib|crypto|arch/x86/crypto|arch/x86/lib)/.*)$`)

// image matches the kernel image: in boot/ up to 7.1, beside the modules from then on.
var image = regexp.MustCompile(`^(boot/vmlinuz-.*|lib/modules/[^/]+/vmlinuz(\.unsigned)?)$`)

// extract unpacks what is wanted of the package file into dir, and gives the kernel's release
// when the package tells it.
func extract(ctx context.Context, file, dir string) (release string, err error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	release, err = extractTar(out, dir)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	if werr := cmd.Wait(); err == nil {
		err = werr
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(file), err)
	}
	return release, nil
}

func extractTar(r io.Reader, dir string) (release string, err error) {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return release, nil
		}
		if err != nil {
			return "", err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "usr/")
		switch {
		case image.MatchString(name):
			name = imageName
		case strings.HasPrefix(name, "boot/config-"):
			name = "config"
		case wanted.MatchString(name):
			release = strings.Split(name, "/")[2]
		default:
			continue
		}
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), tr); err != nil {
			return "", err
		}
	}
}

func writeFile(name string, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// hashFile gives the SHA-256 of a file in hexadecimal, and its size in bytes.
func hashFile(name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, fmt.Errorf("hash file: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("hash file: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
