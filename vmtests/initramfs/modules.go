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
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// Modules are the kernel modules that a guest loads, by name. One that is built into a kernel is
// fine; one that a kernel does not have is reported to the guest, which goes on without it: what
// needs it will say so.
var Modules = []string{
	"veth", "sch_ingress", "cls_bpf", "sch_netem", "8021q", "bridge", "ipv6", "tun", "dummy", "vxlan", "geneve",
	"ip_gre", "ipip", "wireguard", "bonding", "macvlan", "ipvlan",
	"nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nf_conntrack_netlink",
}

// parameters are given to modules when they are loaded.
var parameters = map[string]string{
	"dummy":   "numdummies=0", // not an interface that nobody asked for
	"bonding": "max_bonds=0",
}

// module is a kernel module, decompressed.
type module struct {
	name  string
	image []byte
}

// tree is the modules folder of one kernel.
type tree struct {
	files   map[string]string // name to path
	builtin map[string]bool
}

// canonical is a module's name as the kernel writes it.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// stem is the name of the module in a file, or "" when the file holds none.
func stem(file string) string {
	base := filepath.Base(file)
	name, suffix, ok := strings.Cut(base, ".ko")
	if !ok || (suffix != "" && suffix[0] != '.') {
		return ""
	}
	return canonical(name)
}

// readTree finds the modules below dir (lib/modules/<release>).
func readTree(dir string) (*tree, error) {
	t := &tree{files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if name := stem(path); name != "" {
				t.files[name] = path
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find kernel modules: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, "modules.builtin"))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find built-in modules: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		t.builtin[stem(sc.Text())] = true
	}
	return t, sc.Err()
}

// resolve gives the modules that names need, in the order to load them, and the names that the
// kernel does not have.
func (t *tree) resolve(names []string) (load []module, absent []string, err error) {
	state := map[string]int{} // 1: being resolved, 2: done
	var visit func(name, by string) error
	visit = func(name, by string) error {
		name = canonical(name)
		if state[name] == 2 || t.builtin[name] {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("resolve modules: %s and %s need each other", name, by)
		}
		file, ok := t.files[name]
		if !ok {
			if by != "" {
				return fmt.Errorf("resolve modules: %s needs %s, which is not there", by, name)
			}
			absent = append(absent, name)
			return nil
		}
		state[name] = 1
		image, err := readModule(file)
		if err != nil {
			return err
		}
		needs, err := depends(image)
		if err != nil {
			return fmt.Errorf("read module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := visit(n, name); err != nil {
				return err
			}
		}
		state[name] = 2
		load = append(load, module{name, image})
		return nil
	}
	for _, n := range names {
		if err := visit(n, ""); err != nil {
			return nil, nil, err
		}
	}
	return load, absent, nil
}

// readModule reads a module's file, decompressed.
func readModule(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	switch filepath.Ext(file) {
	case ".ko":
		return data, nil
	case ".xz":
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("decompress module %s: %w", filepath.Base(file), err)
		}
		if data, err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("decompress module %s: %w", filepath.Base(file), err)
		}
		return data, nil
	}
	return nil, fmt.Errorf("read module %s: compression %s is not supported",
		filepath.Base(file), filepath.Ext(file))
}

// depends reads which modules a module needs, from its own .modinfo section: Debian's packages
// come without modules.dep.
func depends(image []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return nil, errors.New("it has no .modinfo")
	}
	info, err := sec.Data()
	if err != nil {
		return nil, err
	}
	for _, entry := range bytes.Split(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(string(list), ","), nil
		}
	}
	return nil, nil
}
