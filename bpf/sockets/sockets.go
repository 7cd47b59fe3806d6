package sockets

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/batch"
	"github.com/weirnet/weir/bpf/beside"
)

// Feature is the name of the feature.
const Feature = "sockets"

// place is where it stands on hooks.
var place = bpf.Place{Name: "weir_sockets", Priority: 0xbef2, Handle: 0x77656973 /* "weis" */}

// Options say how the feature is loaded. Max is how many directions of connections are remembered: one takes
// some 150 bytes.
type Options = beside.Options

// Tuple is a direction of a connection of TCP or UDP.
type Tuple struct {
	Zone     uint16
	Protocol uint8 // 6 or 17
	Src, Dst netip.AddrPort
}

// Sockets is the feature. Its methods may not be called concurrently, but Group may.
type Sockets struct {
	beside.Program
	objs socketsObjects
}

// Open loads the feature.
func Open(o Options) (*Sockets, error) {
	spec, err := loadSockets()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	s := &Sockets{}
	if err := beside.Load(spec, socketsMapSenders, o, &s.objs); err != nil {
		return nil, err
	}
	s.Program, err = beside.Start(beside.Parts{Place: place, Code: s.objs.WeirSockets,
		Jump: s.objs.Jump, Places: s.objs.Places, Now: s.objs.VirtualNow})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close takes the feature out of the kernel.
func (s *Sockets) Close() error { return errors.Join(s.DetachAll(), s.objs.Close()) }

// Group finds the id of the control group whose socket has sent packets, of which the last one was seen at
// a time. It is the inode of the group's folder. ok is false when none was seen, or it was forgotten.
func (s *Sockets) Group(t Tuple, at int64) (id uint64, ok bool, err error) {
	k := keyOf(t)
	var v socketsSender
	err = s.objs.Senders.Lookup(&k, &v)
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("look a sender up: %w", err)
	}
	return v.at(at), true, nil
}

// at is the group at a time.
func (v *socketsSender) at(ns int64) uint64 {
	if v.Before != 0 && ns < int64(v.Since) {
		return v.Before
	}
	return v.Group
}

// Groups calls fn for each group that has sent something since the last call, and may do so for others.
func (s *Sockets) Groups(fn func(id uint64)) error {
	if err := batch.Take(s.objs.Groups, func(id *uint64, _ *uint8) { fn(*id) }); err != nil {
		return fmt.Errorf("read the control groups of senders: %w", err)
	}
	return nil
}

// Lost is how many directions of connections found no room, since Open.
func (s *Sockets) Lost() (n uint64, err error) {
	if err := s.objs.Lost.Get(&n); err != nil {
		return 0, fmt.Errorf("read the losses: %w", err)
	}
	return n, nil
}

func keyOf(t Tuple) socketsTuple {
	k := socketsTuple{Zone: t.Zone, Proto: t.Protocol, Family: 6,
		Sport: bits.ReverseBytes16(t.Src.Port()), Dport: bits.ReverseBytes16(t.Dst.Port())}
	if t.Src.Addr().Is4() {
		k.Family = 4
	}
	put(&k.Src, t.Src.Addr())
	put(&k.Dst, t.Dst.Addr())
	return k
}

func put(to *[2]uint64, a netip.Addr) {
	raw := (*[16]byte)(unsafe.Pointer(to))
	copy(raw[:], a.AsSlice())
}

// Probe finds out whether the feature can run on this kernel, by loading it for a moment. It needs the
// rights that Open needs.
func Probe() error {
	s, err := Open(Options{Max: 1})
	if err != nil {
		return err
	}
	return s.Close()
}

// VerifierEffort returns how many instructions the kernel's verifier walks for the program, by loading it
// for a moment.
func VerifierEffort() (int, error) {
	s, err := Open(Options{Max: 1})
	if err != nil {
		return 0, err
	}
	n, err := s.Walked()
	return n, errors.Join(err, s.Close())
}

// Remove removes the tc filter that the feature of a killed agent may have left on a hook. It must be called
// in the hook's network namespace, on a locked thread.
func Remove(h bpf.Hook) error { return bpf.RemoveBeside(h, place) }
