package author

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/gopacket/layers"
)

// most is how many layers a packet has at most.
const most = 32

// single is a packet step.
type single struct {
	host   *host
	peer   *host  // the receiver, when it is one host
	to     string // else the address of the group
	layers []string
}

// layers takes a packet over layer by layer.
func (c *converter) layers(p *packet) *single {
	s := &single{host: c.hosts[p.src], peer: c.hosts[p.dst], to: c.group(p)}
	for _, v := range p.vlans {
		s.add("vlan: {id: %d, priority: %d, dei: %t}", v.VLANIdentifier, v.Priority, v.DropEligible)
	}
	if p.plain() || p.toAll && !p.fragment() {
		if s.transport(c, p) {
			return s
		}
	}
	s.network(p)
	if len(p.payload()) > rawSize*(most-len(s.layers)) {
		s.payload(len(p.payload()))
		c.change("bytes of large packets are made up")
		return s
	}
	s.raw(p.payload())
	return s
}

// group is the destination of what goes to many.
func (c *converter) group(p *packet) string {
	switch {
	case c.hosts[p.dst] != nil && !p.toAll:
		return ""
	case p.dst.IsMulticast():
		return p.dst.String()
	}
	return "255.255.255.255" // what goes to all in the capture's network
}

func (s *single) add(format string, args ...any) {
	s.layers = append(s.layers, fmt.Sprintf(format, args...))
}

// network writes the IP header, with the number of what it carries.
func (s *single) network(p *packet) {
	switch ip := p.ip.(type) {
	case *layers.IPv4:
		fields := []string{fmt.Sprintf("ttl: %d", ip.TTL), fmt.Sprintf("protocol: %d", ip.Protocol)}
		if ip.TOS != 0 {
			fields = append(fields, fmt.Sprintf("tos: %d", ip.TOS))
		}
		if p.fragment() {
			fields = append(fields, fmt.Sprintf("id: %d, flags: %d, fragment_offset: %d", ip.Id, ip.Flags, ip.FragOffset))
		}
		if head := ip.Contents; len(head) > 20 {
			fields = append(fields, fmt.Sprintf("options: %q", hex.EncodeToString(head[20:])))
		}
		s.add("ipv4: {%s}", strings.Join(fields, ", "))
	case *layers.IPv6:
		s.add("ipv6: {hop_limit: %d, next_header: %d}", ip.HopLimit, ip.NextHeader)
	}
}

// rawSize is how many bytes are written on a line: lines of scenarios are bounded.
const rawSize = 256

// raw writes bytes as they were.
func (s *single) raw(data []byte) {
	for line := range slices.Chunk(data, rawSize) {
		s.add("raw: %q", hex.EncodeToString(line))
	}
}

func (s *single) payload(n int) {
	if n > 0 {
		s.add("payload: %d", n)
	}
}

// transport writes the headers that scenarios have words for; false when it is none of them.
func (s *single) transport(c *converter, p *packet) bool {
	data := p.payload()
	switch p.protocol() {
	case layers.IPProtocolUDP:
		h, ok := transport(data, &layers.UDP{})
		if !ok || int(h.Length) != len(data) {
			return false
		}
		s.add("udp: {src: %d, dst: %d}", h.SrcPort, h.DstPort)
		s.payload(len(h.Payload))
	case layers.IPProtocolICMPv4:
		h, ok := transport(data, &layers.ICMPv4{})
		if !ok {
			return false
		}
		s.icmp(c, "icmp", h.TypeCode.Type(), h.TypeCode.Code(), [4]byte(data[4:8]), data[8:],
			h.TypeCode.Type() == 0 || h.TypeCode.Type() == 8)
	case layers.IPProtocolICMPv6:
		if len(data) < 8 {
			return false
		}
		s.icmp(c, "icmpv6", data[0], data[1], [4]byte(data[4:8]), data[8:], data[0] == 128 || data[0] == 129)
	default:
		return false
	}
	return true
}

// icmp writes an echo, or another message with what it cites.
func (s *single) icmp(c *converter, kind string, typ, code uint8, rest [4]byte, data []byte, echo bool) {
	if echo {
		s.add("%s: {type: %d, id: %d, seq: %d}", kind, typ, int(rest[0])<<8|int(rest[1]), int(rest[2])<<8|int(rest[3]))
		s.payload(len(data))
		return
	}
	s.add("%s: {type: %d, code: %d, rest: 0x%x}", kind, typ, code, rest)
	s.raw(c.cited(data))
}

// cited is a packet inside an ICMP error with the addresses that its hosts have in the scenario.
func (c *converter) cited(data []byte) []byte {
	p := citedPacket(data)
	for _, at := range p {
		for was, h := range c.hosts {
			if was.BitLen() == 8*at[1] && string(data[at[0]:at[0]+at[1]]) == string(was.AsSlice()) {
				copy(data[at[0]:], h.is.AsSlice())
				break
			}
		}
	}
	if len(p) > 0 {
		c.change("packets that ICMP errors cite have the scenario's addresses, and a stale checksum")
	}
	return data
}

// citedPacket is where the addresses of an IP header stand, and how long they are.
func citedPacket(data []byte) [][2]int {
	switch {
	case len(data) >= 20 && data[0]>>4 == 4:
		return [][2]int{{12, 4}, {16, 4}}
	case len(data) >= 40 && data[0]>>4 == 6:
		return [][2]int{{8, 16}, {24, 16}}
	}
	return nil
}

// write writes the step.
func (s *single) write(b *strings.Builder, _ *converter) {
	to := s.to
	if to == "" {
		to = s.peer.name
	}
	fmt.Fprintf(b, "  - packet: %s > %s\n    layers:\n", s.host.name, to)
	for _, l := range s.layers {
		fmt.Fprintf(b, "      - %s\n", l)
	}
}
