package traffic

import (
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// talker is one side's sequence numbers, relative to its ISN. They wrap like the real ones.
type talker struct {
	isn     uint32
	next    uint32 // of the next new byte
	syn     uint32 // of the SYN: 0 unless the script says otherwise
	fin     uint32 // of the segment with the FIN
	synSent bool
	finSent bool
}

// tcp makes the frames of a scripted conversation. A line that is repeated stands for as many
// lines: data goes on, while a SYN or FIN that has been sent already is sent again as it was.
func (b *Builder) tcp(step *spec.TCP, out *sink) error {
	t, err := b.talk(step.Client, step.Server, step.Translated, step.VLANs, out)
	if err != nil {
		return err
	}
	sides := tcpSides(t, step)
	for i := range step.Script {
		s := &step.Script[i]
		if err := t.segments(s, sides); err != nil {
			return atLine(s.Line, err)
		}
	}
	out.end()
	return nil
}

func tcpSides(t *talk, step *spec.TCP) *[2]talker {
	c, s := t.ends(0)
	sides := &[2]talker{{isn: step.ClientISN}, {isn: step.ServerISN}}
	if sides[0].isn == 0 {
		sides[0].isn = deriveISN(c, s)
	}
	if sides[1].isn == 0 {
		sides[1].isn = deriveISN(s, c)
	}
	return sides
}

// deriveISN gives each direction of each connection its own number, the same in every run.
func deriveISN(from, to netip.AddrPort) uint32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s>%s", from, to)
	return h.Sum32()
}

func (t *talk) segments(s *spec.Segment, sides *[2]talker) error {
	for range max(1, s.Repeat) {
		src, dst := t.ends(side(s.FromServer))
		h := newTCP(src.Port(), dst.Port(), s.Flags)
		me, peer := &sides[side(s.FromServer)], &sides[side(!s.FromServer)]
		h.Seq = me.isn + me.send(s, peer)
		if s.Flags&flow.ACK != 0 {
			h.Ack = peer.isn + peer.next
		}
		if s.Ack != nil {
			h.Ack = peer.isn + *s.Ack
		}
		if !t.canSend(side(s.FromServer)) {
			return fmt.Errorf("%s belongs to no host, so nobody can answer from it", t.ways[0].to)
		}
		if _, err := t.say(side(s.FromServer), h, pattern(s.Payload)); err != nil {
			return err
		}
	}
	return nil
}

// send returns the segment's sequence number and moves on.
func (me *talker) send(s *spec.Segment, peer *talker) uint32 {
	seq := me.next
	syn, fin := s.Flags&flow.SYN != 0, s.Flags&flow.FIN != 0
	switch {
	case s.Seq != nil:
		seq = *s.Seq
	case syn:
		seq = me.syn
	case fin && me.finSent:
		seq = me.fin
	}
	if syn && (!me.synSent || seq != me.syn) {
		if s.Flags&flow.ACK == 0 && me.synSent {
			// A SYN with a new ISN is a new connection: the other side starts anew as well.
			*peer = talker{isn: peer.isn}
		}
		*me = talker{isn: me.isn, next: seq, syn: seq, synSent: true}
	}
	end := seq + uint32(s.Payload)
	if syn {
		end++
	}
	if fin {
		end++
		me.fin, me.finSent = seq, true
	}
	if int32(end-me.next) > 0 { // a retransmission does not move on
		me.next = end
	}
	return seq
}
