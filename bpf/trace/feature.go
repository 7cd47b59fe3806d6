package trace

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/weirnet/weir/bpf"
)

// The names of the features.
const (
	FeatureDrops = "drops"
	FeatureRTT   = "rtt"
)

// Features lists the names of all features.
func Features() []string { return []string{FeatureDrops, FeatureRTT} }

// Probe finds out whether a feature can run on this kernel, by loading and attaching it for a
// moment. The note is what it cannot tell here. It needs the rights that Open needs.
func Probe(name string) (note string, err error) {
	t, err := Open(Options{Drops: name == FeatureDrops, RTT: name == FeatureRTT, Max: 1})
	if err != nil {
		return "", err
	}
	return t.Note(), t.Close()
}

// VerifierEffort returns how many instructions the kernel's verifier walks for a feature's program, by
// loading and attaching it for a moment.
func VerifierEffort(name string) (int, error) {
	t, err := Open(Options{Drops: name == FeatureDrops, RTT: name == FeatureRTT, Max: 1})
	if err != nil {
		return 0, err
	}
	n, err := bpf.Walked(t.program())
	return n, errors.Join(err, t.Close())
}

// program is the one program of the one feature that is open.
func (t *Trace) program() *ebpf.Program {
	if t.drops != nil {
		return t.drops.objs.WeirDrops
	}
	return t.rtt.objs.WeirRtt
}

// Note says what the features that are open cannot tell on this kernel; "" is nothing.
func (t *Trace) Note() string {
	if t.drops != nil && !t.drops.reasons.told {
		return "without reasons, which kernels tell since 5.17"
	}
	return ""
}

// kernelTypes reads the running kernel's BTF.
func kernelTypes() (*btf.Spec, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's type information (BTF): %w", err)
	}
	return types, nil
}

// arguments returns the types of a tracepoint's arguments.
func arguments(types *btf.Spec, tracepoint string) ([]btf.Type, error) {
	var def *btf.Typedef
	if err := types.TypeByName("btf_trace_"+tracepoint, &def); err != nil {
		return nil, fmt.Errorf("the kernel has no tracepoint %s that its BTF describes: %w",
			tracepoint, err)
	}
	pointer, ok := btf.UnderlyingType(def.Type).(*btf.Pointer)
	if !ok {
		return nil, fmt.Errorf("tracepoint %s: its type is %v", tracepoint, def.Type)
	}
	call, ok := btf.UnderlyingType(pointer.Target).(*btf.FuncProto)
	if !ok || len(call.Params) == 0 {
		return nil, fmt.Errorf("tracepoint %s: its type is %v", tracepoint, pointer.Target)
	}
	var args []btf.Type
	for _, p := range call.Params[1:] { // the first is what the callback was registered with
		args = append(args, btf.UnderlyingType(p.Type))
	}
	return args, nil
}

// wantPointer checks that the first argument of a tracepoint is a pointer to a structure: a
// program that read something else for it would tell nonsense.
func wantPointer(tracepoint string, args []btf.Type, structure string) error {
	if len(args) > 0 {
		if p, ok := args[0].(*btf.Pointer); ok {
			if s, ok := btf.UnderlyingType(p.Target).(*btf.Struct); ok && s.Name == structure {
				return nil
			}
		}
	}
	return fmt.Errorf("tracepoint %s: its first argument is no pointer to struct %s",
		tracepoint, structure)
}

// explain adds what to do about an error.
func explain(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w (needs root, or CAP_BPF and CAP_PERFMON)", err)
	}
	return err
}
