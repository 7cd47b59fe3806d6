package oracle

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/nat"
	"github.com/weirnet/weir/sim/result"
)

// Against is the oracle's name in differences.
const Against = "oracle"

// Options are what Compare needs to know beside the two tables.
type Options struct {
	// Header is the size of a packet's link header on an interface, in bytes.
	Header func(flow.Hook) uint64
	// Uncounted is how many packets the kernel has left uncounted, by design.
	Uncounted uint64
}

// Compare tells how what weir holds differs from what the kernel tracks: in connections, their
// initiators and states, and the packets and bytes of both directions. Differences by design (Designs)
// are left out.
func Compare(held []conntrack.Entry, tracked []nat.Connection, opts Options) []result.Difference {
	c := comparison{opts: opts, names: map[nat.Tuple]*nat.Connection{}, found: map[*nat.Connection]bool{}}
	for i := range tracked {
		for _, name := range tracked[i].Tuple { // the same one twice, unless it is translated
			c.names[name] = &tracked[i]
		}
	}
	for i := range held {
		c.entry(&held[i])
	}
	for i := range tracked {
		if t := &tracked[i]; !c.found[t] {
			c.add("missing", t.Tuple[nat.Before], nil)
		}
	}
	if c.uncounted == opts.Uncounted {
		return c.diffs
	}
	var f fields
	f.number("packets", opts.Uncounted, c.uncounted)
	return append(c.diffs, append(c.short, result.Difference{Section: "connections", Against: Against,
		Kind: "differs", Record: "left uncounted by the kernel", Fields: f})...)
}

type comparison struct {
	opts  Options
	names map[nat.Tuple]*nat.Connection
	found map[*nat.Connection]bool
	diffs []result.Difference
	// uncounted are the packets that weir has and the kernel has not, short where they are.
	uncounted uint64
	short     []result.Difference
}

func (c *comparison) add(kind string, t nat.Tuple, f fields) {
	c.diffs = append(c.diffs, difference(kind, t, f))
}

func difference(kind string, t nat.Tuple, f fields) result.Difference {
	return result.Difference{Section: "connections", Against: Against, Kind: kind, Record: nameOf(t), Fields: f}
}

// entry looks for what the kernel has of an entry, in either direction, and compares the two.
func (c *comparison) entry(e *conntrack.Entry) {
	name := tupleOf(e)
	k, turned := c.find(name)
	if k == nil || e.Cites != 0 {
		if designed(e) == "" {
			c.add("extra", name, nil)
		}
		return
	}
	forward, reverse := &e.Forward, &e.Reverse
	if turned {
		forward, reverse = reverse, forward
	}
	var f, short fields
	if e.Known && turned {
		f.differ("initiator", e.Dst.String(), e.Src.String())
	}
	if !agree(e.State, k) {
		f.differ("state", stateOf(k), e.State.String())
	}
	c.leg(&f, &short, "original", k.Original, forward)
	c.leg(&f, &short, "reply", k.Reply, reverse)
	if f != nil {
		c.add("differs", name, f)
	}
	if short != nil {
		c.short = append(c.short, difference("differs", name, short))
	}
}

// find looks for the kernel's connection of a name, in either direction. Of two that differ in nothing
// else (pings) it makes one.
func (c *comparison) find(name nat.Tuple) (found *nat.Connection, turned bool) {
	there, back := c.names[name], c.names[name.Reverse()]
	c.found[there], c.found[back] = true, true
	switch {
	case there == nil:
		return back, true
	case back == nil || back == there:
		return there, false
	}
	both := *there
	both.Original = there.Original.Plus(back.Reply)
	both.Reply = there.Reply.Plus(back.Original)
	return &both, false
}

// leg compares the counts of a direction. Packets that the kernel lacks are judged together: short has
// them, and bytes are compared where there are none.
func (c *comparison) leg(f, short *fields, which string, want nat.Count, got *conntrack.Leg) {
	if got.Packets > want.Packets {
		c.uncounted += got.Packets - want.Packets
		short.number(which+" packets", want.Packets, got.Packets)
		return
	}
	bytes := got.Bytes
	if len(got.Seen) > 0 {
		bytes -= got.Packets * c.opts.Header(got.Seen[0])
	}
	f.number(which+" packets", want.Packets, got.Packets)
	f.number(which+" bytes", want.Bytes, bytes)
}

type fields []result.Field

func (f *fields) differ(name, want, got string) {
	*f = append(*f, result.Field{Name: name, Want: want, Got: got})
}

func (f *fields) number(name string, want, got uint64) {
	if want != got {
		f.differ(name, strconv.FormatUint(want, 10), strconv.FormatUint(got, 10))
	}
}

func tupleOf(e *conntrack.Entry) nat.Tuple {
	return nat.Tuple{Src: e.Src, Dst: e.Dst, SrcPort: e.SrcPort, DstPort: e.DstPort, Protocol: e.Protocol,
		ICMPType: e.ICMPType, ICMPCode: e.ICMPCode, ICMPID: e.ICMPID}
}

func nameOf(t nat.Tuple) string {
	return fmt.Sprintf("%s > %s protocol %d", netip.AddrPortFrom(t.Src, t.SrcPort),
		netip.AddrPortFrom(t.Dst, t.DstPort), t.Protocol)
}
