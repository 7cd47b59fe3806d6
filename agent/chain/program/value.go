package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// CheckValue tells why ReadValue cannot read a map.
func CheckValue(t ebpf.MapType, keySize, valueSize uint32) error {
	switch t {
	case ebpf.Array, ebpf.Hash, ebpf.LRUHash, ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUCPUHash:
	default:
		return fmt.Errorf("it is a %v; want an array or a hash", t)
	}
	if keySize > 8 {
		return fmt.Errorf("its keys have %d bytes; want integers", keySize)
	}
	switch valueSize {
	case 1, 2, 4, 8:
		return nil
	}
	return fmt.Errorf("its values have %d bytes; want integers", valueSize)
}

// ReadValue reads an integer from a map of a member, in a generation that was pinned; in a map per CPU the sum
// over them. filled is as in Member.Filled.
func ReadValue(dir, member, filled, name string, key uint64) (value uint64, err error) {
	m, err := openMap(dir, member, filled, name)
	if err != nil {
		return 0, fmt.Errorf("open the map: %w", err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := CheckValue(m.Type(), m.KeySize(), m.ValueSize()); err != nil {
		return 0, err
	}
	raw := binary.NativeEndian.AppendUint64(nil, key)[:m.KeySize()]
	if key>>(8*m.KeySize()) != 0 {
		return 0, fmt.Errorf("key %d does not fit %d bytes", key, m.KeySize())
	}
	var cpus [][]byte
	switch m.Type() {
	case ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUCPUHash:
		err = m.Lookup(raw, &cpus)
	default:
		cpus = [][]byte{nil}
		err = m.Lookup(raw, &cpus[0])
	}
	if err != nil {
		return 0, err
	}
	for _, v := range cpus {
		value += integer(v)
	}
	return value, nil
}

// openMap opens a map of a member's own, or one that the chain shares.
func openMap(dir, member, filled, name string) (*ebpf.Map, error) {
	readOnly := &ebpf.LoadPinOptions{ReadOnly: true}
	own := filepath.Join(dir, ownPin(member, filled, name))
	if _, err := os.Stat(own); err == nil {
		return ebpf.LoadPinnedMap(own, readOnly)
	}
	return ebpf.LoadPinnedMap(filepath.Join(dir, sharedPin(name)), readOnly)
}

// integer is an integer of this machine.
func integer(raw []byte) uint64 {
	switch len(raw) {
	case 1:
		return uint64(raw[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(raw))
	case 4:
		return uint64(binary.NativeEndian.Uint32(raw))
	}
	return binary.NativeEndian.Uint64(raw)
}
