package agent

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/trace"
)

// roundTrips holds what sockets have told of their round-trip times, until the record of their
// packets is written.
type roundTrips struct {
	trace *trace.Trace
	room  int   // sockets
	keep  int64 // ns that a socket is held after its last packet

	read   []trace.RTT
	held   map[rttKey]rttHeld
	missed uint64 // samples that found no room here
	lost   uint64 // samples that found no room, here or in the kernel
	logged uint64 // of those, in the log
}

// rttKey is a connection as one end sees it: the socket is at src.
type rttKey struct {
	src, dst netip.AddrPort
	zone     uint16
}

type rttHeld struct {
	min, last, max, samples uint32
	at                      int64 // when it was last read
}

// zones tells the zones of network namespaces, by inode.
type zones map[uint64][]uint16

// zones are those of the interfaces that are watched.
func (a *Agent) zones() zones {
	z := zones{}
	for _, p := range a.placed {
		z.add(p.at.Namespace, p.at.Zone)
		z.add(anywhere, p.at.Zone)
	}
	return z
}

// anywhere is no namespace's inode: it holds the zones of all.
const anywhere = 0

func (z zones) add(inode uint64, zone uint16) {
	for _, known := range z[inode] {
		if known == zone {
			return
		}
	}
	z[inode] = append(z[inode], zone)
}

// of returns the zones in which a socket's packets may be seen. Those of a namespace that is
// not watched itself, like a container's behind the interface, can only be told when all that
// is watched is one zone.
func (z zones) of(inode uint64) []uint16 {
	if known := z[inode]; inode != anywhere && known != nil {
		return known
	}
	if len(z[anywhere]) == 1 {
		return z[anywhere]
	}
	return nil
}

func newRoundTrips(t *trace.Trace, room int, keep int64) *roundTrips {
	return &roundTrips{trace: t, room: room, keep: keep, held: map[rttKey]rttHeld{}}
}

func (r *roundTrips) drain(now int64, zones zones) error {
	all, err := r.trace.RTT(r.read[:0])
	r.read = all
	r.forget(now)
	for i := range all {
		for _, z := range zones.of(all[i].Namespace) {
			r.add(z, &all[i], now)
		}
	}
	lost, lerr := r.trace.Lost()
	if err == nil {
		err = lerr
	}
	r.lost = max(r.lost, lost.RTT+r.missed)
	return err
}

// forget lets go of sockets whose packets no record has told of: no hook sees them.
func (r *roundTrips) forget(now int64) {
	for k, h := range r.held {
		if now-h.at > r.keep {
			delete(r.held, k)
		}
	}
}

func (r *roundTrips) add(zone uint16, t *trace.RTT, now int64) {
	k := rttKey{t.Src, t.Dst, zone}
	h, ok := r.held[k]
	if !ok {
		if len(r.held) >= r.room {
			r.missed += uint64(t.Samples)
			return
		}
		h.min = t.Min
	}
	h.min, h.max = min(h.min, t.Min), max(h.max, t.Max)
	h.last, h.samples, h.at = t.Last, h.samples+t.Samples, now
	r.held[k] = h
}

// rttSink adds round-trip times to the records that go through it.
type rttSink struct {
	Sink
	rtt *roundTrips
}

// Write takes a record. A time is told once.
func (s *rttSink) Write(rec *flow.Record) error {
	if rec.Protocol != unix.IPPROTO_TCP || rec.Cites != 0 {
		return s.Sink.Write(rec)
	}
	k := rttKey{netip.AddrPortFrom(rec.Src, rec.SrcPort), netip.AddrPortFrom(rec.Dst, rec.DstPort),
		rec.Zone}
	h, ok := s.rtt.held[k]
	if !ok {
		return s.Sink.Write(rec)
	}
	rec.RTTMin, rec.RTTLast, rec.RTTMax, rec.RTTSamples = h.min, h.last, h.max, h.samples
	err := s.Sink.Write(rec)
	if err == nil {
		delete(s.rtt.held, k)
	}
	return err
}
