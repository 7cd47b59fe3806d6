package chain

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/weirnet/weir/agent/chain/artifact"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/mapargs"
	"github.com/weirnet/weir/agent/chain/plan"
	"github.com/weirnet/weir/agent/chain/program"
)

// object is a member's object as it was read.
type object struct {
	member           *Member
	*artifact.Object // nil: the member is a stage
}

// object gets the object of a member, and checks what it is.
func (m *Manager) object(member *Member) (*object, error) {
	if member.Stage != "" {
		return &object{member: member}, nil
	}
	source, signature, err := member.sources()
	if err != nil {
		return nil, err
	}
	o, err := m.fetcher.Get(context.Background(), source, member.SHA256, signature)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member.Object, err)
	}
	return &object{member, o}, nil
}

// sources are where the member's object and its signature are.
func (m *Member) sources() (object, signature artifact.Source, err error) {
	if object, err = artifact.Parse(m.Object); err != nil {
		return object, signature, err
	}
	if m.Signature == "" {
		signature, _ = object.Signature()
		return object, signature, nil
	}
	signature, err = artifact.Parse(m.Signature)
	return object, signature, err
}

// item is the member for the planner. Everything that makes another program of it is in its
// digest; its place is not.
func (o *object) item(kind hook.Kind) (plan.Item, error) {
	if o.member.Stage != "" {
		return o.member.stageItem(), nil
	}
	text, err := json.Marshal(struct {
		Object, Program string
		Proceed         []hook.Verdict
		FailClosed      bool
		Constants       map[string]int64
		Maps            map[string]mapargs.Args
		Metrics         []Metric `json:",omitempty"`
	}{o.Sum, o.member.Program, o.member.proceed(kind), o.member.Fail == FailClosed, o.member.Constants,
		o.member.Maps, o.member.Metrics})
	if err != nil {
		return plan.Item{}, fmt.Errorf("make the digest: %w", err)
	}
	sum := sha256.Sum256(text)
	return plan.Item{Name: o.member.Name, Digest: hex.EncodeToString(sum[:16])}, nil
}

// parse makes the member of the object that is to be built.
func (o *object) parse(kind hook.Kind) (program.Member, error) {
	if o.member.Stage != "" {
		return o.member.stageMember(kind), nil
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.Data))
	if err != nil {
		return program.Member{}, fmt.Errorf("read the object %s: %w", o.member.Object, err)
	}
	for _, name := range slices.Sorted(maps.Keys(o.member.Constants)) {
		if err := setConstant(spec, name, o.member.Constants[name]); err != nil {
			return program.Member{}, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	filled := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(o.member.Maps)) {
		args := o.member.Maps[name]
		if err := fill(spec, name, args); err != nil {
			return program.Member{}, fmt.Errorf("map %s: %w", name, err)
		}
		filled[name] = filledBy(args)
	}
	measured, err := measuredMaps(spec, o.member.Metrics)
	if err != nil {
		return program.Member{}, err
	}
	return program.Member{
		Filled: filled, Measured: measured,
		Name: o.member.Name, Object: spec, Program: o.member.Program, Data: o.Sum[:16],
		Proceed: o.member.proceed(kind), FailClosed: o.member.Fail == FailClosed,
	}, nil
}

// filledBy tells contents of maps apart, as program.Member.Filled wants it.
func filledBy(args mapargs.Args) string {
	if args == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(args))
	return hex.EncodeToString(sum[:8])
}

// mapOf finds a map of the object.
func mapOf(spec *ebpf.CollectionSpec, name string) (*ebpf.MapSpec, error) {
	m := spec.Maps[name]
	if m == nil {
		return nil, fmt.Errorf("the object has no such map (there are: %s)",
			strings.Join(slices.Sorted(maps.Keys(spec.Maps)), ", "))
	}
	return m, nil
}

// fill says what a map holds when it is made.
func fill(spec *ebpf.CollectionSpec, name string, args mapargs.Args) error {
	m, err := mapOf(spec, name)
	if err != nil {
		return err
	}
	m.Contents, err = mapargs.Contents(m, args)
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
