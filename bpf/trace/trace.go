package trace

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// Options say which features are opened, and how large their tables are.
type Options struct {
	Drops, RTT bool
	// Max is how many entries a feature holds from one call of its method to the next; 0
	// means 16384. It takes twice the memory, some 120 bytes an entry.
	Max int
}

// Trace is the features that are open. Its methods may not be called concurrently.
type Trace struct {
	drops *drops
	rtt   *rtt
}

// Tuple is a packet's or socket's place in a network. An address or port that is not known, or
// that the protocol does not have, is zero.
type Tuple struct {
	Src, Dst netip.AddrPort
	Protocol uint8
	// Namespace is the inode of the network namespace, as /proc/PID/ns/net shows it; 0 when
	// the kernel's structures did not tell.
	Namespace uint64
}

// Lost counts what found no room in the tables since Open.
type Lost struct {
	Drops uint64 // packets
	RTT   uint64 // samples
}

// Open loads and attaches features. When one of them cannot run here none is open, and the error
// says why.
func Open(o Options) (*Trace, error) {
	if o.Max == 0 {
		o.Max = 16384
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, explain(fmt.Errorf("lift the limit on locked memory: %w", err))
	}
	types, err := kernelTypes()
	if err != nil {
		return nil, err
	}
	t := &Trace{}
	if o.Drops {
		if t.drops, err = openDrops(types, o.Max); err != nil {
			return nil, explain(fmt.Errorf("open %s: %w", FeatureDrops, err))
		}
	}
	if o.RTT {
		if t.rtt, err = openRTT(types, o.Max); err != nil {
			return nil, errors.Join(explain(fmt.Errorf("open %s: %w", FeatureRTT, err)), t.Close())
		}
	}
	return t, nil
}

// Close takes the programs out of the kernel; what was not read is lost.
func (t *Trace) Close() error {
	var errs []error
	if t.drops != nil {
		errs = append(errs, t.drops.close())
	}
	if t.rtt != nil {
		errs = append(errs, t.rtt.close())
	}
	return errors.Join(errs...)
}

// Lost returns what found no room.
func (t *Trace) Lost() (Lost, error) {
	var l Lost
	var errs []error
	if t.drops != nil {
		errs = append(errs, t.drops.objs.Lost.Get(&l.Drops))
	}
	if t.rtt != nil {
		errs = append(errs, t.rtt.objs.Lost.Get(&l.RTT))
	}
	if err := errors.Join(errs...); err != nil {
		return l, fmt.Errorf("read the losses: %w", err)
	}
	return l, nil
}

// load loads an object for the kernel whose types are given, with tables of max entries.
func load(spec *ebpf.CollectionSpec, types *btf.Spec, maximum int, objs any) error {
	for _, m := range spec.Maps {
		if m.Type == ebpf.Hash {
			m.MaxEntries = uint32(maximum)
		}
	}
	err := spec.LoadAndAssign(objs, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{KernelTypes: types, LogLevel: ebpf.LogLevelStats},
	})
	var refused *ebpf.VerifierError
	if errors.As(err, &refused) {
		return fmt.Errorf("the kernel's verifier refuses the program: %+v", refused)
	}
	return err
}

func attach(program *ebpf.Program, tracepoint string) (link.Link, error) {
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Program: program, Name: tracepoint})
	if err != nil {
		return nil, fmt.Errorf("attach to tracepoint %s: %w", tracepoint, err)
	}
	return l, nil
}

// tuple converts a key of both objects, which have the same layout.
func (k *dropsTuple) tuple() Tuple {
	return Tuple{
		Src:      netip.AddrPortFrom(k.addr(&k.Src), bits.ReverseBytes16(k.Sport)),
		Dst:      netip.AddrPortFrom(k.addr(&k.Dst), bits.ReverseBytes16(k.Dport)),
		Protocol: k.Proto, Namespace: uint64(k.Netns),
	}
}

// addr converts an address. That of an IPv6 socket that speaks IPv4 becomes what its packets
// carry.
func (k *dropsTuple) addr(words *[2]uint64) netip.Addr {
	raw := (*[16]byte)(unsafe.Pointer(words))
	if k.Family == 4 {
		return netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrFrom16(*raw).Unmap()
}
