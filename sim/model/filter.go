package model

import (
	"net/netip"

	"github.com/weirnet/weir/bpf"
)

// accepts tells whether the filter lets a packet be counted: the first rule that matches decides,
// and the default where none does.
func accepts(f *bpf.Filter, p *packet) bool {
	for i := range f.Rules {
		if r := &f.Rules[i]; matches(r, p) {
			return !r.Reject
		}
	}
	return !f.Reject
}

// matches tells whether a packet has all that the rule names, as it travels or, if the rule says
// so, with source and destination exchanged.
func matches(r *bpf.Rule, p *packet) bool {
	switch {
	case r.Family != 0 && (r.Family == 4) != p.src.addr.Is4():
		return false
	case r.Protocol != 0 && r.Protocol-1 != uint16(p.protocol):
		return false
	case r.FlagsMask != 0 && (!p.hasFlags() || p.flags&r.FlagsMask != r.FlagsMatch):
		return false
	case !matchesICMP(r, p):
		return false
	}
	return matchesEnds(r, p, p.src, p.dst) || r.Either && matchesEnds(r, p, p.dst, p.src)
}

// matchesICMP compares type and code as they stand in the packet's own header: that of an error,
// not what it cites, and that of a reply, not its request's.
func matchesICMP(r *bpf.Rule, p *packet) bool {
	if r.ICMPType == 0 && r.ICMPCode == 0 {
		return true
	}
	return p.message.set &&
		(r.ICMPType == 0 || r.ICMPType-1 == uint16(p.message.typ)) &&
		(r.ICMPCode == 0 || r.ICMPCode-1 == uint16(p.message.code))
}

// matchesEnds compares addresses and ports, the packet going from src to dst.
func matchesEnds(r *bpf.Rule, p *packet, src, dst endpoint) bool {
	return within(r.Src, src.addr) && within(r.Dst, dst.addr) &&
		(anyPort(r.SrcPort) || p.hasPorts() && inRange(r.SrcPort, src.port)) &&
		(anyPort(r.DstPort) || p.hasPorts() && inRange(r.DstPort, dst.port))
}

// within tells whether an address is in a prefix; one that was not given has all.
func within(p netip.Prefix, addr netip.Addr) bool { return !p.IsValid() || p.Contains(addr) }

func anyPort(r bpf.PortRange) bool { return r.From == 0 && r.To == 0 }

func inRange(r bpf.PortRange, port uint16) bool { return r.From <= port && port <= r.To }

// hasFlags tells whether the packet has TCP flags, or a chunk that stands for some. A later
// fragment has none.
func (p *packet) hasFlags() bool { return p.hasStates() && !p.frag.later }
