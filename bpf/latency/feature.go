package latency

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/weirnet/weir/bpf"
)

// The names of the features.
const (
	FeatureDNS       = "dns"
	FeatureHandshake = "handshake"
)

// Features lists the names of all features.
func Features() []string { return []string{FeatureDNS, FeatureHandshake} }

// Places are where the features stand on hooks, by name.
var places = map[string]bpf.Place{
	FeatureDNS:       {Name: "weir_dns", Priority: 0xbef0, Handle: 0x77656964 /* "weid" */},
	FeatureHandshake: {Name: "weir_handshake", Priority: 0xbef1, Handle: 0x77656968 /* "weih" */},
}

// Options say how a feature is loaded.
type Options struct {
	// Max is how many transactions or handshakes are followed at a time; 0 means 16384. One
	// takes some 400 bytes of DNS, 120 of handshakes.
	Max int
	// Virtual makes the programs read their time from SetNow instead of the kernel's clock.
	Virtual bool
}

// maximum is the size of the table.
func (o Options) maximum() uint32 {
	if o.Max == 0 {
		return 16384
	}
	return uint32(o.Max)
}

// Probe finds out whether a feature can run on this kernel, by loading it for a moment. It needs
// the rights that opening it needs.
func Probe(name string) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// VerifierEffort returns how many instructions the kernel's verifier walks for a feature's program, by
// loading it for a moment.
func VerifierEffort(name string) (int, error) {
	f, err := open(name)
	if err != nil {
		return 0, err
	}
	n, err := f.walked()
	return n, errors.Join(err, f.Close())
}

// feature is one of either.
type feature interface {
	walked() (int, error)
	Close() error
}

// open opens a feature that nothing is to be seen by.
func open(name string) (feature, error) {
	if name == FeatureDNS {
		return OpenDNS(nil, Options{Max: 1})
	}
	return OpenHandshake(Options{Max: 1})
}

// Remove removes the tc filter that a feature of a killed agent may have left on a hook. It must be
// called in the hook's network namespace, on a locked thread.
func Remove(name string, h bpf.Hook) error { return bpf.RemoveBeside(h, places[name]) }

// program is what both features have in common: the program and where it is attached.
type program struct {
	place    bpf.Place
	code     *ebpf.Program
	jump     *ebpf.Map
	places   *ebpf.Map
	now      *ebpf.Variable
	attached map[uint16]*bpf.Beside
}

func (p *program) walked() (int, error) { return bpf.Walked(p.code) }

// start makes the program ready for stubs to jump to.
func (p *program) start() error {
	p.attached = map[uint16]*bpf.Beside{}
	if err := p.jump.Put(uint32(0), p.code); err != nil {
		return fmt.Errorf("put %s in place: %w", p.place.Name, err)
	}
	return nil
}

// Attach puts the feature on a hook that has a number in the datapath. It must be called in the
// hook's network namespace, on a locked thread.
func (p *program) Attach(h bpf.Hook, number uint16) error {
	if err := p.places.Put(uint32(number), placeOf(h)); err != nil {
		return fmt.Errorf("write hook %d of %s: %w", number, p.place.Name, err)
	}
	b, err := bpf.AttachBeside(h, p.place, number, p.jump)
	if err != nil {
		return err
	}
	p.attached[number] = b
	return nil
}

// placeOf has the layout of both objects' struct place.
func placeOf(h bpf.Hook) dnsPlace {
	at := dnsPlace{Zone: h.Zone, On: 1}
	if h.L3 {
		at.L3 = 1
	}
	return at
}

// Detach takes the feature off a hook. With mode TC it must be called in the hook's network
// namespace, on a locked thread. What was not read stays readable.
func (p *program) Detach(number uint16) error {
	b := p.attached[number]
	if b == nil {
		return nil
	}
	delete(p.attached, number)
	return b.Detach()
}

// SetNow sets the virtual clock, in nanoseconds. Without Options.Virtual nothing reads it.
func (p *program) SetNow(ns int64) error {
	if err := p.now.Set(uint64(ns)); err != nil {
		return fmt.Errorf("set the clock of %s: %w", p.place.Name, err)
	}
	return nil
}

// load loads an object whose table has the given name.
func load(spec *ebpf.CollectionSpec, table string, o Options, objs any) error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return explain(fmt.Errorf("lift the limit on locked memory: %w", err))
	}
	spec.Maps[table].MaxEntries = o.maximum()
	virtual := uint8(0)
	if o.Virtual {
		virtual = 1
	}
	if err := spec.Variables["is_virtual"].Set(virtual); err != nil {
		return fmt.Errorf("set the object's constants: %w", err)
	}
	err := spec.LoadAndAssign(objs, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		return fmt.Errorf("the kernel's verifier refuses the program: %+v", refused)
	}
	return explain(err)
}

// explain adds what to do about an error.
func explain(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w (needs root, or CAP_BPF and CAP_NET_ADMIN)", err)
	}
	return err
}

// Stub returns a program that puts a packet through the feature as if it came from the hook, for
// BPF_PROG_TEST_RUN. The caller closes it.
func (p *program) Stub(h bpf.Hook, number uint16) (*ebpf.Program, error) {
	if err := p.places.Put(uint32(number), placeOf(h)); err != nil {
		return nil, fmt.Errorf("write hook %d of %s: %w", number, p.place.Name, err)
	}
	return bpf.NewStub(p.place.Name, number, p.jump)
}
