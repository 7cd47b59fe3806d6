package traffic

import (
	"encoding/binary"
	"fmt"

	"github.com/weirnet/weir/sim/spec"
)

// icmpError is an ICMP error in both families.
type icmpError struct {
	typ4, code4 uint8
	typ6, code6 uint8
	mtu         uint16
}

// icmpErrors are those that UDP scripts can name. The MTU of "too-big" is the smallest that
// IPv6 allows.
var icmpErrors = map[string]icmpError{
	"network": {typ4: 3, code4: 0, typ6: 1, code6: 0},
	"host":    {typ4: 3, code4: 1, typ6: 1, code6: 3},
	"port":    {typ4: 3, code4: 3, typ6: 1, code6: 4},
	"admin":   {typ4: 3, code4: 13, typ6: 1, code6: 1},
	"too-big": {typ4: 3, code4: 4, typ6: 2, code6: 0, mtu: 1280},
	"ttl":     {typ4: 11, code4: 0, typ6: 3, code6: 0},
}

// maxCited6 is as much of the packet as fits into the smallest IPv6 MTU behind the error's own
// headers (RFC 4443 section 2.4).
const maxCited6 = 1280 - 40 - 8

// udp makes the frames of a scripted exchange.
func (b *Builder) udp(step *spec.UDP, out *sink) error {
	t, err := b.talk(step.Client, step.Server, step.Translated, step.VLANs, out)
	if err != nil {
		return err
	}
	var last [2][]byte // the last datagram of each side as the other has it, from its IP header on
	for i := range step.Script {
		d := &step.Script[i]
		if err := t.datagrams(d, &last); err != nil {
			return atLine(d.Line, err)
		}
	}
	out.end()
	return nil
}

func (t *talk) datagrams(d *spec.Datagram, last *[2][]byte) error {
	me, peer := side(d.FromServer), side(!d.FromServer)
	if !t.canSend(me) {
		return fmt.Errorf("%s belongs to no host, so nobody can answer from it", t.ways[0].to)
	}
	for range max(1, d.Repeat) {
		if d.Unreachable != "" {
			if _, err := t.say(me, t.errorAbout(d.Unreachable, last[peer])...); err != nil {
				return err
			}
			continue
		}
		src, dst := t.ends(me)
		frame, err := t.say(me, newUDP(src.Port(), dst.Port()), pattern(d.Payload))
		if err == nil && t.far != nil {
			dst, src = t.ends(peer) // it has been translated
			t.id--
			frame, err = t.framed(me, src.Addr(), dst.Addr(), newUDP(src.Port(), dst.Port()),
				pattern(d.Payload))
		}
		if err != nil {
			return err
		}
		last[me] = frame[14+4*len(t.vlans):]
	}
	return nil
}

// errorAbout is an ICMP error and what it cites of the datagram: over IPv4 the header and 8
// bytes (RFC 792), over IPv6 as much as may be.
func (t *talk) errorAbout(name string, datagram []byte) []header {
	e := icmpErrors[name]
	var rest [4]byte
	binary.BigEndian.PutUint32(rest[:], uint32(e.mtu))
	if t.v6() {
		cited := datagram[:min(len(datagram), maxCited6)]
		return []header{&icmpv6{icmp{typ: e.typ6, code: e.code6, rest: rest}}, &payload{data: cited}}
	}
	cited := datagram[:min(len(datagram), 20+8)]
	return []header{&icmp{typ: e.typ4, code: e.code4, rest: rest}, &payload{data: cited}}
}

// ping makes the frames of scripted echo: each request, then its reply.
func (b *Builder) ping(step *spec.Ping, out *sink) error {
	t, err := b.talk(step.From, step.To, step.Translated, nil, out)
	if err != nil {
		return err
	}
	if step.Reply && !t.canSend(1) {
		return fmt.Errorf("%s belongs to no host, so nobody can answer from it", t.ways[0].to)
	}
	for i := range max(1, step.Count) {
		rest := echoRest(step.ID, uint16(i+1))
		if _, err := t.say(0, t.echo(false, rest), pattern(step.Payload)); err != nil {
			return err
		}
		if !step.Reply {
			continue
		}
		if _, err := t.say(1, t.echo(true, rest), pattern(step.Payload)); err != nil {
			return err
		}
	}
	out.end()
	return nil
}

func (t *talk) echo(reply bool, rest [4]byte) header {
	switch {
	case t.v6() && reply:
		return &icmpv6{icmp{typ: 129, rest: rest}}
	case t.v6():
		return &icmpv6{icmp{typ: 128, rest: rest}}
	case reply:
		return &icmp{typ: 0, rest: rest}
	}
	return &icmp{typ: 8, rest: rest}
}
