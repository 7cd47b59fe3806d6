package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// MaxRules is how many rules a filter may have.
const MaxRules = 512

// Filter says which packets are counted: those that the first matching rule accepts, or else the
// default. README section 3.
type Filter struct {
	Rules []Rule
	// Reject is what becomes of a packet that no rule matches.
	Reject bool
}

func (f *Filter) empty() bool { return len(f.Rules) == 0 && !f.Reject }

// setFilter writes the rules to the list that is not in use, and then switches to it.
func (d *Datapath) setFilter(f *Filter) error {
	if f.empty() && d.opts.Filter.empty() {
		return nil
	}
	if len(f.Rules) > MaxRules {
		return fmt.Errorf("filter with %d rules, of at most %d", len(f.Rules), MaxRules)
	}
	first := MaxRules - d.rules
	for i := range f.Rules {
		r, err := f.Rules[i].encode()
		if err != nil {
			return fmt.Errorf("filter rule %d: %w", i+1, err)
		}
		if err := d.objs.Rules.Put(uint32(first+i), r); err != nil {
			return fmt.Errorf("write filter rule %d: %w", i+1, err)
		}
	}
	list := uint64(first) | uint64(len(f.Rules))<<16 | uint64(bit(f.Reject))<<32
	if err := d.objs.FilterList.Set(list); err != nil {
		return fmt.Errorf("switch to the new filter: %w", err)
	}
	d.rules = first
	return d.Grace() // the list that was in use may be written from now on
}

// Rule is one rule of a filter. What is zero is not asked for.
type Rule struct {
	Reject   bool
	Family   uint8  // 4 or 6; follows from a prefix
	Protocol uint16 // IANA's number + 1
	Src, Dst netip.Prefix
	SrcPort  PortRange
	DstPort  PortRange
	// FlagsMask are the TCP flags to look at, in the header's bit order; those of them that are
	// set must be FlagsMatch.
	FlagsMask, FlagsMatch uint8
	ICMPType, ICMPCode    uint16 // the number + 1
	// Either lets the rule match also with source and destination exchanged.
	Either bool
}

// PortRange is a range of ports, both ends included; From 0 to To 0 stands for any.
type PortRange struct{ From, To uint16 }

func (r PortRange) any() bool { return r == PortRange{} }

// The bits of struct rule.flags (enum rule_flags in filter.h).
const (
	ruleReject = 1 << iota
	ruleProtocol
	rulePorts
	ruleFlags
	ruleICMPType
	ruleICMPCode
	ruleEither
)

// family returns the family that a rule asks for, 0 for any.
func (r *Rule) family() (uint8, error) {
	family := r.Family
	for _, p := range []netip.Prefix{r.Src, r.Dst} {
		if !p.IsValid() {
			continue
		}
		of := uint8(6)
		if p.Addr().Is4() {
			of = 4
		}
		if family != 0 && family != of {
			return 0, fmt.Errorf("%s is not of the rule's family, IPv%d", p, family)
		}
		family = of
	}
	return family, nil
}

// encode makes the rule what the datapath reads.
func (r *Rule) encode() (weirRule, error) {
	family, err := r.family()
	w := weirRule{Family: family, FlagsMask: r.FlagsMask, FlagsMatch: r.FlagsMatch}
	set := func(on bool, flag uint8) {
		if on {
			w.Flags |= flag
		}
	}
	set(r.Reject, ruleReject)
	set(r.Protocol != 0, ruleProtocol)
	set(!r.SrcPort.any() || !r.DstPort.any(), rulePorts)
	set(r.FlagsMask != 0, ruleFlags)
	set(r.ICMPType != 0, ruleICMPType)
	set(r.ICMPCode != 0, ruleICMPCode)
	set(r.Either, ruleEither)
	w.Proto, w.IcmpType, w.IcmpCode = uint8(r.Protocol-1), uint8(r.ICMPType-1), uint8(r.ICMPCode-1)
	for i, p := range []netip.Prefix{r.Src, r.Dst} {
		w.Addr[i], w.Mask[i] = words(p)
	}
	for i, p := range []PortRange{r.SrcPort, r.DstPort} {
		if p.any() {
			p.To = 0xffff
		}
		w.From[i], w.To[i] = p.From, p.To
	}
	return w, err
}

// words returns a prefix's address and mask as they lie in struct packet.addr.
func words(p netip.Prefix) (addr, mask [2]uint64) {
	if !p.IsValid() {
		return addr, mask
	}
	var a, m [16]byte
	copy(a[:], p.Masked().Addr().AsSlice())
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	for i := range 2 {
		addr[i] = binary.LittleEndian.Uint64(a[8*i:])
		mask[i] = binary.LittleEndian.Uint64(m[8*i:])
	}
	return addr, mask
}
