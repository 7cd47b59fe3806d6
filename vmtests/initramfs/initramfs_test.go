package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// makeELF makes a file with a .modinfo section and, if wanted, a program header that asks for a
// dynamic loader.
func makeELF(modinfo string, dynamic bool) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64),
		Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64, Shnum: 3,
		Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var progs []elf.Prog64
	if dynamic {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_INTERP)})
		h.Phnum, h.Phoff = 1, 64
	}
	data := uint64(64 + 56*len(progs))
	h.Shoff = data + uint64(len(modinfo)+len(names))
	var b bytes.Buffer
	for _, v := range []any{h, progs, []byte(modinfo), []byte(names), []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: data, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: data + uint64(len(modinfo)),
			Size: uint64(len(names))},
	}} {
		_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes all
	}
	return b.Bytes()
}

func pack(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// makeTree makes a modules folder: path to what the module depends on.
func makeTree(t *testing.T, modules map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, needs := range modules {
		image := makeELF("license=GPL\x00depends="+needs+"\x00name=x\x00", false)
		if strings.HasSuffix(path, ".xz") {
			image = pack(t, image)
		}
		put(t, filepath.Join(dir, path), image)
	}
	put(t, filepath.Join(dir, "modules.builtin"), []byte("kernel/net/ipv6/ipv6.ko\n"))
	return dir
}

func put(t *testing.T, file string, data []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, data, 0o644))
}

func TestBuild(t *testing.T) {
	dir := makeTree(t, map[string]string{
		"kernel/net/8021q/8021q.ko.xz":        "garp,mrp",
		"kernel/net/802/garp.ko.xz":           "stp",
		"kernel/net/802/mrp.ko.xz":            "",
		"kernel/net/802/stp.ko":               "llc",
		"kernel/net/llc/llc.ko":               "ipv6",
		"kernel/net/sched/sch_ingress.ko":     "",
		"kernel/drivers/net/dummy.ko":         "",
		"kernel/drivers/net/not-wanted.ko.xz": "",
	})
	init := filepath.Join(t.TempDir(), "weir")
	put(t, init, makeELF("", false))
	var out bytes.Buffer
	require.NoError(t, Build(&out, init, dir,
		[]string{"8021q", "sch-ingress", "ipv6", "dummy", "veth"},
		[]File{{Path: "/usr/lib/a/b", Mode: 0o755, Body: []byte("b")}, {Path: "/etc/c", Mode: 0o640}}, []byte("do it")))
	files, modes, order := map[string]string{}, map[string]cpio.FileMode{}, []string(nil)
	for r := cpio.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		files[h.Name], modes[h.Name] = string(data), h.Mode.Perm()
		order = append(order, h.Name)
	}
	require.Len(t, order, len(files), "a file is there twice")
	require.Equal(t, "b", files["usr/lib/a/b"])
	require.Equal(t, cpio.FileMode(0o755), modes["usr/lib/a/b"])
	require.Equal(t, cpio.FileMode(0o640), modes["etc/c"])
	require.Less(t, slices.Index(order, "usr"), slices.Index(order, "usr/lib"))
	require.Less(t, slices.Index(order, "usr/lib/a"), slices.Index(order, "usr/lib/a/b"))
	require.Equal(t, string(makeELF("", false)), files["init"])
	require.Equal(t, "llc.ko\nstp.ko\ngarp.ko\nmrp.ko\n8021q.ko\nsch_ingress.ko\n"+
		"dummy.ko numdummies=0\n", files["modules/load"])
	require.Equal(t, "veth", files["modules/absent"])
	require.True(t, strings.HasPrefix(files["modules/8021q.ko"], elf.ELFMAG))
	require.Equal(t, "do it", files["orders"])
	require.Contains(t, files, "proc")
	require.NotContains(t, files, "modules/not_wanted.ko")
}

func TestBuildWithoutModules(t *testing.T) {
	init := filepath.Join(t.TempDir(), "weir")
	put(t, init, makeELF("", false))
	require.NoError(t, Build(io.Discard, init, "", Modules, nil, nil))
}

func TestBuildErrors(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	put(t, good, makeELF("", false))
	dynamic := filepath.Join(t.TempDir(), "dynamic")
	put(t, dynamic, makeELF("", true))
	text := filepath.Join(t.TempDir(), "text")
	put(t, text, []byte("#!/bin/sh\n"))
	broken := t.TempDir()
	put(t, filepath.Join(broken, "a.ko.xz"), []byte("not xz"))
	put(t, filepath.Join(broken, "b.ko.gz"), []byte("gz"))
	put(t, filepath.Join(broken, "c.ko"), []byte("not ELF"))
	loop := makeTree(t, map[string]string{"a.ko": "b", "b.ko": "a", "c.ko": "gone"})
	tests := map[string]struct{ init, modules, module, err string }{
		"no init":             {"/nowhere/weir", "", "", "read init binary"},
		"dynamic init":        {dynamic, "", "", ErrDynamic.Error()},
		"init is a script":    {text, "", "", "read ELF"},
		"no module folder":    {good, "/nowhere", "", "find kernel modules"},
		"damaged xz":          {good, broken, "a", "decompress module a.ko.xz"},
		"unknown compression": {good, broken, "b", "compression .gz"},
		"not a module":        {good, broken, "c", "read module c"},
		"a circle":            {good, loop, "a", "need each other"},
		"a dependency lost":   {good, loop, "c", "c needs gone"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := Build(io.Discard, tt.init, tt.modules, []string{tt.module}, nil, nil)
			require.ErrorContains(t, err, tt.err)
		})
	}
}

func FuzzDepends(f *testing.F) {
	f.Add(makeELF("depends=a,b\x00", false))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(_ *testing.T, image []byte) {
		_, _ = depends(image) // must not panic
		_ = checkStatic(image)
	})
}
