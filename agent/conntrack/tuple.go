package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// Tuple names a connection. Which of its ends is called the source does not matter.
type Tuple struct {
	Zone     uint16     `json:"zone,omitempty"`
	Protocol uint8      `json:"protocol"`
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	SrcPort  uint16     `json:"src_port,omitempty"` // 0 when the protocol has no ports
	DstPort  uint16     `json:"dst_port,omitempty"`
	// Cites is the protocol of the connection that an ICMP error is about; else 0.
	Cites uint8 `json:"cites,omitempty"`
	// Of ICMP: the type of the request, the code, and the identifier.
	ICMPType uint8  `json:"icmp_type,omitempty"`
	ICMPCode uint8  `json:"icmp_code,omitempty"`
	ICMPID   uint16 `json:"icmp_id,omitempty"`
}

// Tuple is how the entry is named.
func (e *Entry) Tuple() Tuple {
	return Tuple{Zone: e.Zone, Protocol: e.Protocol, Src: e.Src, Dst: e.Dst, SrcPort: e.SrcPort,
		DstPort: e.DstPort, Cites: e.Cites, ICMPType: e.ICMPType, ICMPCode: e.ICMPCode, ICMPID: e.ICMPID}
}

// Check tells what is wrong with the tuple.
func (t *Tuple) Check() error {
	for _, end := range []struct {
		name string
		addr netip.Addr
	}{{"src", t.Src}, {"dst", t.Dst}} {
		if !end.addr.IsValid() || end.addr.Zone() != "" || end.addr.Is4In6() {
			return fmt.Errorf("%s: %q; want an address like 10.0.0.1 or 2001:db8::1", end.name, end.addr)
		}
	}
	if t.Src.Is4() != t.Dst.Is4() {
		return fmt.Errorf("src %s, dst %s: want two addresses of one family", t.Src, t.Dst)
	}
	return nil
}

// Key is the tuple as the datapath names it.
func (t *Tuple) Key() bpf.Tuple {
	return bpf.Tuple{Addr: [2]netip.Addr{t.Src, t.Dst}, Port: [2]uint16{t.SrcPort, t.DstPort}, Zone: t.Zone,
		Protocol: t.Protocol, Cites: t.Cites, ICMPID: t.ICMPID, ICMPType: t.ICMPType, ICMPCode: t.ICMPCode}
}

// Event tells that a connection has ended, and why.
type Event struct {
	Entry  Entry          `json:"entry"` // as it ended
	Reason flow.EndReason `json:"end"`
}
