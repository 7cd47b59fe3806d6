package mapargs

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

var (
	u8  = &btf.Int{Name: "u8", Size: 1}
	u16 = &btf.Int{Name: "u16", Size: 2}
	u32 = &btf.Int{Name: "u32", Size: 4}
	s16 = &btf.Int{Name: "s16", Size: 2, Encoding: btf.Signed}
	// be16 is __be16, two typedefs away.
	be16   = &btf.Typedef{Name: "port", Type: &btf.Typedef{Name: "__be16", Type: u16}}
	action = &btf.Enum{Name: "action", Size: 4, Values: []btf.EnumValue{{Name: "PASS", Value: 0}, {Name: "DROP", Value: 7}}}
	rule   = &btf.Struct{Name: "rule", Size: 16, Members: []btf.Member{
		{Name: "port", Type: be16}, {Name: "offset", Type: s16, Offset: 16},
		{Name: "action", Type: action, Offset: 32},
		{Name: "name", Type: &btf.Array{Type: u8, Nelems: 4}, Offset: 64},
		{Name: "sizes", Type: &btf.Array{Type: u16, Nelems: 2}, Offset: 96},
	}}
)

func spec(t ebpf.MapType, key, value btf.Type, keySize, valueSize uint32) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "m", Type: t, Key: key, Value: value, KeySize: keySize, ValueSize: valueSize, MaxEntries: 3}
}

// read reads args from YAML.
func read(t *testing.T, text string) (a Args, err error) {
	t.Helper()
	return a, yaml.Unmarshal([]byte(text), &a)
}

func TestContents(t *testing.T) {
	for name, c := range map[string]struct {
		m    *ebpf.MapSpec
		args string
		want []ebpf.MapKV
	}{
		"keys of a hash": {spec(ebpf.Hash, u16, u32, 2, 4), `"80, 443"`, []ebpf.MapKV{
			{Key: []byte{80, 0}, Value: []byte{1, 0, 0, 0}}, {Key: []byte{0xbb, 1}, Value: []byte{1, 0, 0, 0}}}},
		"values of an array": {spec(ebpf.Array, u32, u16, 4, 2), `"80,0x1bb"`, []ebpf.MapKV{
			{Key: []byte{0, 0, 0, 0}, Value: []byte{80, 0}}, {Key: []byte{1, 0, 0, 0}, Value: []byte{0xbb, 1}}}},
		"a number": {spec(ebpf.Array, u32, u16, 4, 2), `10000`, []ebpf.MapKV{
			{Key: []byte{0, 0, 0, 0}, Value: []byte{0x10, 0x27}}}},
		"nothing": {spec(ebpf.Hash, u16, u32, 2, 4), `""`, nil},
		"without types": {spec(ebpf.Hash, nil, nil, 8, 1), `[{key: 18446744073709551615, value: -1}]`, []ebpf.MapKV{
			{Key: []byte{255, 255, 255, 255, 255, 255, 255, 255}, Value: []byte{255}}}},
		"types": {spec(ebpf.LRUHash, u8, rule, 1, 16),
			`[{key: 1, value: {port: 443, offset: -2, action: DROP, name: ab, sizes: [5]}}]`, []ebpf.MapKV{
				{Key: []byte{1}, Value: []byte{1, 0xbb, 0xfe, 0xff, 7, 0, 0, 0, 'a', 'b', 0, 0, 5, 0, 0, 0}}}},
		"left out": {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: "7", value: {action: 7}}]`, []ebpf.MapKV{
			{Key: []byte{7}, Value: []byte{0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := read(t, c.args)
			require.NoError(t, err)
			got, err := Contents(c.m, a)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			text, err := json.Marshal(a)
			require.NoError(t, err)
			var again Args
			require.NoError(t, json.Unmarshal(text, &again))
			require.Equal(t, a, again)
		})
	}
}

func TestPerCPU(t *testing.T) {
	got, err := Contents(spec(ebpf.PerCPUArray, u32, u16, 4, 2), `"5"`)
	require.NoError(t, err)
	cpus, err := ebpf.PossibleCPU()
	require.NoError(t, err)
	values := got[0].Value.([][]byte)
	require.Len(t, values, cpus)
	require.Equal(t, []byte{5, 0}, values[cpus-1])
}

func TestErrors(t *testing.T) {
	hash := spec(ebpf.Hash, u16, u32, 2, 4)
	shared := spec(ebpf.Hash, u16, u32, 2, 4)
	shared.Pinning = ebpf.PinByName
	for name, c := range map[string]struct {
		m         *ebpf.MapSpec
		args, err string
	}{
		"no number":        {hash, `"80,http"`, `entry 1: key: "http" is no integer`},
		"octal":            {hash, `"080,0o7"`, `entry 1: key: "0o7" is no integer`},
		"a hole":           {hash, `"80,,443"`, `entry 1: key: "" is no integer`},
		"a fraction":       {hash, `[{key: 1.5, value: 1}]`, `entry 0: key: 1.5 is no integer`},
		"too large":        {hash, `"65536"`, `entry 0: key: 65536 does not fit 2 bytes, signed: false`},
		"negative":         {hash, `"-1"`, `entry 0: key: -1 does not fit`},
		"much too large":   {hash, `"` + strings.Repeat("9", 1000) + `"`, "is no integer"},
		"twice":            {hash, `"80,0x50"`, "entry 1: key 0x50 is there twice"},
		"too many":         {hash, `"1,2,3,4"`, "4 entries; the map has room for 3"},
		"beyond an array":  {spec(ebpf.Array, u32, u16, 4, 2), `[{key: 3, value: 1}]`, "entry 0: key 3; the array ends at 2"},
		"type of map":      {spec(ebpf.RingBuf, nil, nil, 0, 0), `"1"`, "want an array, a hash or an LPM trie"},
		"shared":           {shared, `"1"`, "members share it"},
		"variables":        {&ebpf.MapSpec{Name: ".data", Type: ebpf.Array}, `"1"`, "constants can be set"},
		"no such member":   {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: 1, value: {prot: 1}}]`, "value: prot: there is no such member; want port, offset, action, name, sizes"},
		"member's value":   {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: 1, value: {offset: 32768}}]`, "value: offset: 32768 does not fit 2 bytes, signed: true"},
		"no enumerator":    {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: 1, value: {action: STOP}}]`, `value: action: "STOP" is no integer; want a number or one of PASS, DROP`},
		"long text":        {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: 1, value: {name: abcde}}]`, `value: name: "abcde" has 5 bytes, want at most 4`},
		"long list":        {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: 1, value: {sizes: [1, 2, 3]}}]`, "value: sizes: 3 elements, want at most 2"},
		"list's element":   {spec(ebpf.Hash, u8, rule, 1, 16), `[{key: 1, value: {sizes: [1, x]}}]`, `value: sizes: [1]: "x" is no integer`},
		"no struct":        {spec(ebpf.Hash, u8, rule, 1, 16), `"1"`, "value: 1 is no set of members; want port"},
		"untyped and wide": {spec(ebpf.Hash, nil, nil, 6, 4), `"1"`, "no type information (BTF) for its 6 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := read(t, c.args)
			require.NoError(t, err)
			_, err = Contents(c.m, a)
			require.ErrorContains(t, err, c.err)
		})
	}
	for _, text := range []string{"true", "null", "{a: 1}", "[1]", "[{key: 1}]", "[{key: 1, value: 2, more: 3}]", "[{key: null, value: 1}]"} {
		a, err := read(t, text)
		require.NoError(t, err)
		require.Error(t, a.Check(), text)
	}
}

func FuzzContents(f *testing.F) {
	for _, text := range []string{`"80,443"`, `5`, `[{"key":1,"value":{"port":443,"action":"DROP","name":"x","sizes":[1]}}]`} {
		f.Add([]byte(text))
	}
	maps := []*ebpf.MapSpec{spec(ebpf.Hash, u16, rule, 2, 16), spec(ebpf.Array, u32, s16, 4, 2), spec(ebpf.Hash, nil, nil, 8, 2)}
	f.Fuzz(func(t *testing.T, text []byte) {
		var a Args
		if a.UnmarshalJSON(text) != nil {
			return
		}
		for _, m := range maps {
			contents, err := Contents(m, a)
			if err != nil {
				continue
			}
			for _, kv := range contents {
				require.Len(t, kv.Key, int(m.KeySize))
				require.Len(t, kv.Value, int(m.ValueSize))
			}
		}
	})
}
