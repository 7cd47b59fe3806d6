// Package initramfs builds what a guest boots from: a newc cpio archive with a static binary as
// /init, the kernel modules that it loads, and files of the host that scenarios need. There is nothing
// else in a guest.
//
// The archive is not compressed: QEMU hands it over by DMA, while an emulated CPU would have to
// decompress it.
package initramfs

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// The files of a guest that are not modules.
const (
	Init       = "/init"
	ModuleDir  = "/modules"
	ModuleList = "/modules/load"   // a line per file in ModuleDir, in order: name, parameters
	AbsentList = "/modules/absent" // wanted modules that the kernel does not have
	Orders     = "/orders"         // what the guest has to do, if it is not told that later
)

// ErrDynamic is returned for an init binary that needs a dynamic loader, which a guest lacks.
var ErrDynamic = errors.New("not a static binary (build with CGO_ENABLED=0)")

// folders are the mount points and folders that the guest needs.
var folders = []string{"dev", "proc", "sys", "run", "tmp", "modules", "etc", "root"}

// File is a file of the host that a guest has by the same path.
type File struct {
	Path string // absolute
	Mode fs.FileMode
	Body []byte
}

// Build writes an archive to w with the binary at init, the wanted modules of the kernel's
// module folder, and files; modules is empty for a kernel that has everything built in. Orders are a
// file of the guest unless they are nil.
func Build(w io.Writer, init, modules string, wanted []string, files []File, orders []byte) error {
	bin, err := os.ReadFile(init)
	if err != nil {
		return fmt.Errorf("read init binary: %w", err)
	}
	if err := checkStatic(bin); err != nil {
		return fmt.Errorf("use %s as init: %w", filepath.Base(init), err)
	}
	load, absent := []module(nil), wanted
	if modules != "" {
		t, err := readTree(modules)
		if err != nil {
			return err
		}
		if load, absent, err = t.resolve(wanted); err != nil {
			return err
		}
	}
	buf := bufio.NewWriterSize(w, 1<<20)
	if err := write(cpio.NewWriter(buf), bin, load, absent, files, orders); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return buf.Flush()
}

func write(w *cpio.Writer, bin []byte, load []module, absent []string, files []File, orders []byte) error {
	var err error
	put := func(name string, mode cpio.FileMode, body []byte) {
		if err != nil {
			return
		}
		name = strings.TrimPrefix(name, "/")
		if err = w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(body))}); err == nil {
			_, err = w.Write(body)
		}
	}
	for _, d := range append(slices.Clone(folders), foldersOf(files)...) {
		put(d, cpio.TypeDir|0o755, nil)
	}
	put(Init, cpio.TypeReg|0o755, bin)
	var names strings.Builder
	for _, m := range load {
		put(ModuleDir+"/"+m.name+".ko", cpio.TypeReg|0o644, m.image)
		names.WriteString(strings.TrimSpace(m.name+".ko "+parameters[m.name]) + "\n")
	}
	put(ModuleList, cpio.TypeReg|0o644, []byte(names.String()))
	put(AbsentList, cpio.TypeReg|0o644, []byte(strings.Join(absent, "\n")))
	for _, f := range files {
		put(f.Path, cpio.TypeReg|cpio.FileMode(f.Mode.Perm()), f.Body)
	}
	if orders != nil {
		put(Orders, cpio.TypeReg|0o600, orders)
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// foldersOf are the folders that files lie in and that a guest has not, those above others first.
func foldersOf(files []File) (all []string) {
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "/"; dir = path.Dir(dir) {
			if name := dir[1:]; !slices.Contains(folders, name) && !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// checkStatic tells whether an ELF binary runs without a dynamic loader.
func checkStatic(bin []byte) error {
	f, err := elf.NewFile(bytes.NewReader(bin))
	if err != nil {
		return fmt.Errorf("read ELF: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return ErrDynamic
		}
	}
	return nil
}
