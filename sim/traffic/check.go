package traffic

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// Limits of a step. They keep a slip of the pen from filling the memory of a small guest.
const (
	maxPayload = 65507 // of UDP over IPv4; longer frames do not fit into a link anyway
	maxRepeat  = 1_000_000
	maxFlows   = 1_000_000
	maxSocket  = 1 << 30 // bytes of a socket step, each way
)

// Check reports what is wrong with a traffic step, as far as that can be seen without the
// topology: unknown layers and fields, with the nearest spelling, and values out of range. It
// returns an error that starts with the line, and nil for steps that are not traffic.
func Check(step *spec.Step) error {
	var err error
	switch {
	case step.Packet != nil:
		err = checkPacket(step.Packet)
	case step.TCP != nil:
		err = checkTCP(step.TCP)
	case step.UDP != nil:
		err = checkUDP(step.UDP)
	case step.Ping != nil:
		p := step.Ping
		err = errors.Join(inRange("count", p.Count, 0, 65535),
			inRange("payload", p.Payload, 0, maxPayload), checkPair(p.From, p.To))
	case step.Burst != nil:
		b := step.Burst
		err = errors.Join(inRange("flows", b.Flows, 1, maxFlows),
			inRange("packets", b.Packets, 0, maxRepeat),
			oneOf("protocol", b.Protocol, "", "tcp", "udp"), checkPair(b.From, b.To))
	case step.Socket != nil:
		s := step.Socket
		err = errors.Join(oneOf("network", s.Network, "tcp", "udp"),
			inRange("bytes", s.Bytes, 0, maxSocket), inRange("reply", s.Reply, 0, maxSocket),
			checkPair(s.From, s.To))
	}
	return atLine(step.Line, err)
}

func checkPacket(p *spec.Packet) error {
	if len(p.Layers) == 0 {
		return errors.New("the packet has no layers")
	}
	for _, l := range p.Layers {
		if _, err := parseLayer(l); err != nil {
			return err
		}
	}
	if p.From.Host == "" {
		return errors.New("the packet needs a host it is sent from")
	}
	if f := p.Fragments; f != nil && (f.Size < 8 || f.Size%8 != 0) {
		return fmt.Errorf("fragments of %d bytes: want a multiple of 8", f.Size)
	}
	return inRange("count", p.Count, 0, maxRepeat)
}

func checkTCP(t *spec.TCP) error {
	for _, s := range t.Script {
		err := errors.Join(inRange("payload", s.Payload, 0, maxPayload),
			inRange("repeat", s.Repeat, 0, maxRepeat))
		if s.Ack != nil && s.Flags&flow.ACK == 0 {
			err = errors.Join(err, errors.New("ack= needs the flag ACK"))
		}
		if err != nil {
			return atLine(s.Line, err)
		}
	}
	return errors.Join(checkVLANs(t.VLANs), checkPair(t.Client, t.Server))
}

func checkUDP(u *spec.UDP) error {
	var sent [2]bool // by the client, by the server
	for _, d := range u.Script {
		err := errors.Join(inRange("payload", d.Payload, 0, maxPayload),
			inRange("repeat", d.Repeat, 0, maxRepeat))
		if d.Unreachable != "" {
			if _, ok := icmpErrors[d.Unreachable]; !ok {
				err = fmt.Errorf("unknown ICMP error %q%s", d.Unreachable,
					suggest(d.Unreachable, sortedKeys(icmpErrors)))
			} else if !sent[side(!d.FromServer)] {
				err = errors.New("the other side has sent no datagram that the error could be about")
			}
		} else {
			sent[side(d.FromServer)] = true
		}
		if err != nil {
			return atLine(d.Line, err)
		}
	}
	return errors.Join(checkVLANs(u.VLANs), checkPair(u.Client, u.Server))
}

// side is the index of the client (0) or the server (1).
func side(server bool) int {
	if server {
		return 1
	}
	return 0
}

func checkVLANs(ids []uint16) error {
	for _, id := range ids {
		if id > 4095 {
			return fmt.Errorf("VLAN %d is more than 4095", id)
		}
	}
	return nil
}

// checkPair refuses pairs that no packet can travel between.
func checkPair(a, b spec.Endpoint) error {
	switch {
	case a.Host == "":
		return fmt.Errorf("%s belongs to no host, so nobody can send from it", a.Addr)
	case a.Addr.IsValid() && b.Addr.IsValid() && is6(a.Addr) != is6(b.Addr):
		return fmt.Errorf("%s and %s are of different families", a.Addr, b.Addr)
	case a.Host == b.Host:
		return fmt.Errorf("both endpoints are on host %s", a.Host)
	}
	return nil
}

func is6(a netip.Addr) bool { return a.Unmap().Is6() }

func inRange(what string, v, low, high int) error {
	if v < low || v > high {
		return fmt.Errorf("%s %d is not in %d to %d", what, v, low, high)
	}
	return nil
}

func oneOf(what, v string, known ...string) error {
	for _, k := range known {
		if v == k {
			return nil
		}
	}
	return fmt.Errorf("unknown %s %q%s", what, v, suggest(v, known))
}
