package mapargs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Contents are the entries that args give to a map.
func Contents(m *ebpf.MapSpec, args Args) ([]ebpf.MapKV, error) {
	array, perCPU, err := kind(m)
	if err != nil {
		return nil, err
	}
	texts, entries, err := args.forms()
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		e := entry{strings.TrimSpace(text), json.Number("1")}
		if array {
			e = entry{json.Number(fmt.Sprint(i)), e.Key}
		}
		entries = append(entries, e)
	}
	if uint64(len(entries)) > uint64(m.MaxEntries) {
		return nil, fmt.Errorf("%d entries; the map has room for %d", len(entries), m.MaxEntries)
	}
	var all []ebpf.MapKV
	var keys [][]byte
	for i, e := range entries {
		key, value, err := encodeEntry(m, e)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		if array && binary.LittleEndian.Uint32(key) >= m.MaxEntries {
			return nil, fmt.Errorf("entry %d: key %v; the array ends at %d", i, e.Key, m.MaxEntries-1)
		}
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			return nil, fmt.Errorf("entry %d: key %v is there twice", i, e.Key)
		}
		keys = append(keys, key)
		kv := ebpf.MapKV{Key: key, Value: value}
		if perCPU {
			cpus, err := ebpf.PossibleCPU()
			if err != nil {
				return nil, fmt.Errorf("count the CPUs: %w", err)
			}
			kv.Value = slices.Repeat([][]byte{value}, cpus)
		}
		all = append(all, kv)
	}
	return all, nil
}

// kind tells how a map is addressed.
func kind(m *ebpf.MapSpec) (array, perCPU bool, err error) {
	if strings.HasPrefix(m.Name, ".") {
		return false, false, errors.New("it is no map, but the object's variables; constants can be set")
	}
	if m.Pinning == ebpf.PinByName {
		return false, false, errors.New("members share it (LIBBPF_PIN_BY_NAME): it belongs to none of them")
	}
	switch m.Type {
	case ebpf.Array:
		return true, false, nil
	case ebpf.PerCPUArray:
		return true, true, nil
	case ebpf.Hash, ebpf.LRUHash, ebpf.LPMTrie:
		return false, false, nil
	case ebpf.PerCPUHash, ebpf.LRUCPUHash:
		return false, true, nil
	}
	return false, false, fmt.Errorf("its type is %v; want an array, a hash or an LPM trie", m.Type)
}

func encodeEntry(m *ebpf.MapSpec, e entry) (key, value []byte, err error) {
	key = make([]byte, m.KeySize)
	if err := encode(key, m.Key, e.Key); err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	value = make([]byte, m.ValueSize)
	if err := encode(value, m.Value, e.Value); err != nil {
		return nil, nil, fmt.Errorf("value: %w", err)
	}
	return key, value, nil
}

// encode writes v as a value of a type; a nil type is an integer as wide as there is room.
func encode(to []byte, t btf.Type, v any) error {
	if t == nil {
		return encodeUntyped(to, v)
	}
	if size, err := btf.Sizeof(t); err != nil || size != len(to) {
		return fmt.Errorf("the type %v has %d bytes, and the map %d", t, size, len(to))
	}
	switch u := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		return encodeInt(to, v, u.Encoding == btf.Signed, bigEndian(t))
	case *btf.Enum:
		return encodeEnum(to, u, v)
	case *btf.Array:
		return encodeArray(to, u, v)
	case *btf.Struct:
		return encodeMembers(to, u.Members, v)
	case *btf.Union:
		if m, ok := v.(map[string]any); ok && len(m) > 1 {
			return errors.New("a union has one member at a time")
		}
		return encodeMembers(to, u.Members, v)
	}
	return fmt.Errorf("its type is %v, which cannot be given", t)
}

// encodeUntyped is for a map without type information: 1, 2, 4 or 8 bytes, with a sign or without.
func encodeUntyped(to []byte, v any) error {
	if !slices.Contains([]int{1, 2, 4, 8}, len(to)) {
		return fmt.Errorf("the object has no type information (BTF) for its %d bytes", len(to))
	}
	if err := encodeInt(to, v, false, false); err == nil {
		return nil
	}
	return encodeInt(to, v, true, false)
}

// bigEndian tells whether a type is one that the kernel's headers call so.
func bigEndian(t btf.Type) bool {
	for {
		d, ok := t.(*btf.Typedef)
		if !ok {
			return false
		}
		if slices.Contains([]string{"__be16", "__be32", "__be64"}, d.Name) {
			return true
		}
		t = d.Type
	}
}

// encodeInt writes an integer: a number, a text of one (also 0x...), or a truth value.
func encodeInt(to []byte, v any, signed, big bool) error {
	n, err := integer(v)
	if err != nil {
		return err
	}
	if !fits(n, len(to), signed) {
		return fmt.Errorf("%v does not fit %d bytes, signed: %t", n, len(to), signed)
	}
	n.Mod(n, limit(len(to)*8)) // two's complement
	n.FillBytes(to)
	if !big {
		slices.Reverse(to) // as eBPF objects here are
	}
	return nil
}

// maxDigits is more than what any integer of 8 bytes has.
const maxDigits = 40

func integer(v any) (*big.Int, error) {
	var text string
	switch v := v.(type) {
	case bool:
		text = map[bool]string{false: "0", true: "1"}[v]
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	base := 10 // and not 8 after a 0
	digits, hex := strings.CutPrefix(text, "0x")
	if hex {
		base = 16
	}
	if len(digits) <= maxDigits {
		if n, ok := new(big.Int).SetString(digits, base); ok {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s is no integer", show(v))
}

func fits(n *big.Int, size int, signed bool) bool {
	if !signed {
		return n.Sign() >= 0 && n.Cmp(limit(size*8)) < 0
	}
	half := limit(size*8 - 1)
	return n.Cmp(half) < 0 && n.Cmp(new(big.Int).Neg(half)) >= 0
}

func limit(bits int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(bits)) }

// encodeEnum writes an enumerator, by its name or number.
func encodeEnum(to []byte, e *btf.Enum, v any) error {
	var names []string
	for _, x := range e.Values {
		if x.Name == v {
			v = json.Number(new(big.Int).SetUint64(x.Value).String())
			if e.Signed {
				v = json.Number(fmt.Sprint(int64(x.Value)))
			}
			return encodeInt(to, v, e.Signed, false)
		}
		names = append(names, x.Name)
	}
	if err := encodeInt(to, v, e.Signed, false); err != nil {
		return fmt.Errorf("%w; want a number or one of %s", err, strings.Join(names, ", "))
	}
	return nil
}

// encodeArray writes a list, or a text into an array of bytes; it is filled up with zeros.
func encodeArray(to []byte, a *btf.Array, v any) error {
	size, err := btf.Sizeof(a.Type)
	if err != nil {
		return err
	}
	if text, ok := v.(string); ok && size == 1 {
		if len(text) > len(to) {
			return fmt.Errorf("%q has %d bytes, want at most %d", text, len(text), len(to))
		}
		copy(to, text)
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%s is no list", show(v))
	}
	if len(list) > int(a.Nelems) {
		return fmt.Errorf("%d elements, want at most %d", len(list), a.Nelems)
	}
	for i, x := range list {
		if err := encode(to[i*size:][:size], a.Type, x); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

// encodeMembers writes the members that v names; others are zero.
func encodeMembers(to []byte, members []btf.Member, v any) error {
	given, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is no set of members; want %s", show(v), names(members))
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := slices.IndexFunc(members, func(m btf.Member) bool { return m.Name == name && name != "" })
		if at < 0 {
			return fmt.Errorf("%s: there is no such member; want %s", name, names(members))
		}
		m := &members[at]
		if m.BitfieldSize != 0 {
			return fmt.Errorf("%s: a bit field cannot be given", name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := encode(to[m.Offset.Bytes():][:size], m.Type, given[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func names(members []btf.Member) string {
	var all []string
	for _, m := range members {
		all = append(all, m.Name)
	}
	return strings.Join(all, ", ")
}

// show is a value for error messages.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
