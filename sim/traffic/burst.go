package traffic

import (
	"errors"
	"math/rand/v2"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// window is how many flows of a burst are under way at the same time. In each round every flow
// sends until it must hear from the other side; so the number of waits depends on the longest
// flow of a window and not on the number of flows.
const window = 256

// wholeTCP is the length of the shortest conversation with handshake and close; a burst of
// shorter flows has conversations that stop in the middle.
const wholeTCP = 6

// servicePorts are what responders of a burst listen on.
var servicePorts = []uint16{22, 25, 53, 80, 110, 123, 143, 389, 443, 500, 853, 993, 1194, 3306,
	5432, 6379, 8080, 8443, 9092, 51820}

// sizes are typical payloads: nothing, a byte, small questions, full segments.
var sizes = []int{0, 1, 12, 40, 64, 120, 300, 512, 800, 1200, 1400}

// burstFlow is one flow of a burst and what of it is still to be sent.
type burstFlow struct {
	talk  *talk
	sides *[2]talker // nil: UDP
	turns []turn
}

// turn is one packet of a flow: by the initiator or the responder.
type turn struct {
	responder bool
	flags     flow.TCPFlags
	payload   int
}

// drawer draws the flows of one burst.
type drawer struct {
	rand *rand.Rand
	step *spec.Burst
	talk *talk              // between From and To
	seen map[[3]uint16]bool // port of From, port of To, protocol: no tuple twice

	maxPayload int
}

// burst makes the frames of a burst. Flows differ in their ports, so that there are as many
// connections as flows; either endpoint may be the initiator. Frames that wait for others
// (an answer for its question) are in a later round, and only the last of a round waits.
func (b *Builder) burst(step *spec.Burst, out *sink) error {
	if step.To.Host == "" {
		return errors.New("a burst needs hosts at both ends")
	}
	t, err := b.talk(step.From, step.To, nil, nil, out)
	if err != nil {
		return err
	}
	d := &drawer{rand: rand.New(rand.NewPCG(step.Seed, 0)), step: step, talk: t,
		seen:       make(map[[3]uint16]bool, step.Flows),
		maxPayload: b.net.smallestMTU() + 14 - t.overhead() - 20}
	for left := step.Flows; left > 0; left -= window {
		flows := make([]*burstFlow, min(left, window))
		for i := range flows {
			flows[i] = d.flow()
		}
		if err := d.rounds(flows, out); err != nil {
			return err
		}
	}
	out.end()
	return nil
}

// smallestMTU bounds a burst's payloads: they pass any path without being cut.
func (n *network) smallestMTU() int {
	smallest := 1500
	for _, h := range n.topology.Hosts {
		for i := range h.Interfaces {
			smallest = min(smallest, mtu(&h.Interfaces[i]))
		}
	}
	return smallest
}

// rounds sends the flows: in each round all that one host has to say, then the other.
func (d *drawer) rounds(flows []*burstFlow, out *sink) error {
	for {
		sent := 0
		for _, host := range []string{d.step.From.Host, d.step.To.Host} {
			n := 0
			for _, f := range flows {
				said, err := f.speak(host)
				if err != nil {
					return err
				}
				n += said
			}
			if n > 0 {
				out.held.Wait = true
			}
			sent += n
		}
		if sent == 0 {
			return nil
		}
	}
}

// speak sends what the host can say without hearing from the other one.
func (f *burstFlow) speak(host string) (int, error) {
	n := 0
	for ; n < len(f.turns); n++ {
		turn := &f.turns[n]
		me := side(turn.responder)
		if f.talk.ways[me].port.Host != host {
			break
		}
		if f.sides != nil {
			s := spec.Segment{FromServer: turn.responder, Flags: turn.flags, Payload: turn.payload}
			if err := f.talk.segments(&s, f.sides); err != nil {
				return n, err
			}
			continue
		}
		src, dst := f.talk.ends(me)
		h := newUDP(src.Port(), dst.Port())
		if _, err := f.talk.say(me, h, pattern(turn.payload)); err != nil {
			return n, err
		}
	}
	f.turns = f.turns[n:]
	return n, nil
}

// flow draws one flow.
func (d *drawer) flow() *burstFlow {
	tcp := d.step.Protocol == "tcp" || d.step.Protocol == "" && d.rand.IntN(2) == 0
	t := *d.talk
	t.together = true
	for {
		t.ports = [2]uint16{1024 + uint16(d.rand.IntN(65536-1024)),
			servicePorts[d.rand.IntN(len(servicePorts))]}
		t.ways = d.talk.ways
		key := [3]uint16{t.ports[0], t.ports[1], uint16(side(tcp))}
		if d.rand.IntN(2) == 0 {
			t.ways[0], t.ways[1] = t.ways[1], t.ways[0]
			key[0], key[1] = key[1], key[0]
		}
		if !d.seen[key] {
			d.seen[key] = true
			break
		}
	}
	f := &burstFlow{talk: &t}
	if tcp {
		f.sides = tcpSides(&t, &spec.TCP{})
		f.turns = d.tcpTurns()
	} else {
		f.turns = d.udpTurns()
	}
	return f
}

func (d *drawer) size() int {
	return min(sizes[d.rand.IntN(len(sizes))], d.maxPayload)
}

// tcpTurns is a whole conversation, or the beginning of one where there is no room for more.
func (d *drawer) tcpTurns() []turn {
	most := max(1, d.step.Packets)
	turns := []turn{{false, flow.SYN, 0}, {true, flow.SYN | flow.ACK, 0}, {false, flow.ACK, 0}}
	if most < wholeTCP {
		turns = append(turns, turn{false, flow.PSH | flow.ACK, d.size()}, turn{true, flow.ACK, 0})
		return turns[:1+d.rand.IntN(most)]
	}
	for range d.rand.IntN(most - wholeTCP + 1) {
		turns = append(turns, turn{d.rand.IntN(2) == 0, flow.PSH | flow.ACK, d.size()})
	}
	return append(turns, turn{false, flow.FIN | flow.ACK, 0}, turn{true, flow.FIN | flow.ACK, 0},
		turn{false, flow.ACK, 0})
}

// udpTurns is datagrams one way, or questions with answers.
func (d *drawer) udpTurns() []turn {
	replied := d.rand.IntN(2) == 0
	turns := make([]turn, 1+d.rand.IntN(max(1, d.step.Packets)))
	for i := range turns {
		turns[i] = turn{responder: replied && i%2 == 1, payload: d.size()}
	}
	return turns
}
