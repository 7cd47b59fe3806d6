package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// namesMap is pinned beside the others. No program reads it.
const namesMap = "names"

// maxName is how long a hook's name may be, in bytes.
const maxName = 256

// openNames opens the map of hooks' names, where they are to outlive the process.
func (d *Datapath) openNames() (err error) {
	if d.opts.Pin == "" {
		return nil
	}
	d.names, err = ebpf.NewMapWithOptions(&ebpf.MapSpec{Name: namesMap, Type: ebpf.Hash, KeySize: 4, ValueSize: maxName,
		MaxEntries: maxHooks, Flags: unix.BPF_F_NO_PREALLOC, Pinning: ebpf.PinByName}, ebpf.MapOptions{PinPath: d.pinPath()})
	if err != nil {
		return fmt.Errorf("open the names of hooks: %w", err)
	}
	return nil
}

// inheritNames takes the names over that an older layout's agent has left, if it knew any.
func (d *Datapath) inheritNames() error {
	err := os.Rename(filepath.Join(d.older.folder, namesMap), filepath.Join(d.pinPath(), namesMap))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("take over the names of hooks: %w", err)
	}
	return nil
}

// NameHook remembers for the next agent how a hook is called: its interface may be gone by then. Without
// a pin folder nothing is remembered, nor a name of more than 256 bytes.
func (d *Datapath) NameHook(number uint16, name string) error {
	if d.names == nil || len(name) > maxName {
		return nil
	}
	value := make([]byte, maxName)
	copy(value, name)
	if err := d.names.Put(uint32(number), value); err != nil {
		return fmt.Errorf("remember the name of hook %d: %w", number, err)
	}
	return nil
}

// HookName is how this agent, or an earlier one, has called a hook; "" when that is not known.
func (d *Datapath) HookName(number uint16) string {
	var value [maxName]byte
	if d.names == nil || d.names.Lookup(uint32(number), &value) != nil {
		return ""
	}
	return string(bytes.TrimRight(value[:], "\x00"))
}

// forgetName goes with the hook's number.
func (d *Datapath) forgetName(number uint16) error {
	if d.names == nil {
		return nil
	}
	if err := d.names.Delete(uint32(number)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget the name of hook %d: %w", number, err)
	}
	return nil
}

// HookOf is the hook that has a number, with what it was attached with; false when none has.
func (d *Datapath) HookOf(number uint16) (Hook, bool) {
	h, ok := d.hooks[number]
	return hookFrom(h), ok
}

func hookFrom(h weirHook) Hook {
	return Hook{Interface: int(h.Ifindex), Egress: h.Egress != 0, Namespace: h.Netns, Zone: h.Zone, L3: h.Flags&hookL3 != 0}
}
