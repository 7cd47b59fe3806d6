package chain

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/mapargs"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/program"
)

// maxObject is how large an object file may be, in bytes. Objects with all debug information of
// large projects have a few MiB.
const maxObject = 64 << 20

// ErrChecksum is returned for an object that is not the one that was asked for.
var ErrChecksum = errors.New("the object's checksum is another")

// artifact is a member's object as it was read.
type artifact struct {
	member *Member
	data   []byte
	sum    string
}

// readArtifact reads the object of a member and checks what it is.
func readArtifact(m *Member) (*artifact, error) {
	f, err := os.Open(m.Object)
	if err != nil {
		return nil, fmt.Errorf("open the object: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("the object %s is no regular file", m.Object), err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxObject+1))
	if err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	if len(data) > maxObject {
		return nil, fmt.Errorf("the object %s is larger than %d bytes", m.Object, maxObject)
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, fmt.Errorf("%s is no eBPF object: it is not in ELF format", m.Object)
	}
	sum := sha256.Sum256(data)
	a := &artifact{member: m, data: data, sum: hex.EncodeToString(sum[:])}
	if m.SHA256 != "" && m.SHA256 != a.sum {
		return nil, fmt.Errorf("%s: %w: sha256 %s, want %s", m.Object, ErrChecksum, a.sum, m.SHA256)
	}
	return a, nil
}

// item is the member for the planner. Everything that makes another program of it is in its
// digest; its place is not.
func (a *artifact) item(kind hook.Kind) (plan.Item, error) {
	text, err := json.Marshal(struct {
		Object, Program string
		Proceed         []hook.Verdict
		FailClosed      bool
		Constants       map[string]int64
		Maps            map[string]mapargs.Args
	}{a.sum, a.member.Program, a.member.proceed(kind), a.member.Fail == FailClosed, a.member.Constants,
		a.member.Maps})
	if err != nil {
		return plan.Item{}, fmt.Errorf("make the digest: %w", err)
	}
	sum := sha256.Sum256(text)
	return plan.Item{Name: a.member.Name, Digest: hex.EncodeToString(sum[:16])}, nil
}

// parse makes the member of the object that is to be built.
func (a *artifact) parse(kind hook.Kind) (program.Member, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(a.data))
	if err != nil {
		return program.Member{}, fmt.Errorf("read the object %s: %w", a.member.Object, err)
	}
	for _, name := range slices.Sorted(maps.Keys(a.member.Constants)) {
		if err := setConstant(spec, name, a.member.Constants[name]); err != nil {
			return program.Member{}, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	filled := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(a.member.Maps)) {
		args := a.member.Maps[name]
		if err := fill(spec, name, args); err != nil {
			return program.Member{}, fmt.Errorf("map %s: %w", name, err)
		}
		sum := sha256.Sum256([]byte(args))
		filled[name] = hex.EncodeToString(sum[:8])
	}
	return program.Member{
		Filled: filled,
		Name:   a.member.Name, Object: spec, Program: a.member.Program, Data: a.sum[:16],
		Proceed: a.member.proceed(kind), FailClosed: a.member.Fail == FailClosed,
	}, nil
}

// fill says what a map holds when it is made.
func fill(spec *ebpf.CollectionSpec, name string, args mapargs.Args) error {
	m := spec.Maps[name]
	if m == nil {
		return fmt.Errorf("the object has no such map (there are: %s)",
			strings.Join(slices.Sorted(maps.Keys(spec.Maps)), ", "))
	}
	contents, err := mapargs.Contents(m, args)
	m.Contents = contents
	return err
}

// setConstant sets a global constant, of the width that the object's BTF says it has.
func setConstant(spec *ebpf.CollectionSpec, name string, value int64) error {
	v := spec.Variables[name]
	if v == nil || !v.Constant() {
		return fmt.Errorf("the object has no such constant (there are: %s)", constants(spec))
	}
	if v.Type == nil {
		return errors.New("the object has no type information (BTF) about it")
	}
	var signed bool
	switch t := btf.UnderlyingType(v.Type.Type).(type) {
	case *btf.Int:
		signed = t.Encoding == btf.Signed
	case *btf.Enum:
		signed = t.Signed
	default:
		return fmt.Errorf("its type is %v, and not an integer", t)
	}
	size := v.Size()
	if !inRange(value, size, signed) {
		return fmt.Errorf("%d does not fit %d bytes, signed: %t", value, size, signed)
	}
	if size > 8 {
		return fmt.Errorf("it has %d bytes", size)
	}
	raw := binary.LittleEndian.AppendUint64(nil, uint64(value))[:size] // as eBPF objects here are
	return v.Set(raw)
}

// inRange tells whether a value fits an integer of size bytes.
func inRange(value int64, size uint32, signed bool) bool {
	if !signed && value < 0 {
		return false
	}
	if size >= 8 {
		return true
	}
	bits := size * 8
	if signed {
		bits--
	}
	limit := int64(1) << bits
	return value < limit && value >= -limit
}

func constants(spec *ebpf.CollectionSpec) string {
	var names []string
	for name, v := range spec.Variables {
		if v.Constant() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
