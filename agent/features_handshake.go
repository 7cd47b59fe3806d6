package agent

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/latency"
)

// handshakes holds what handshakes have told, until a record of their connection is written.
type handshakes struct {
	feature *latency.Handshakes
	room    int   // connections
	keep    int64 // ns that a handshake is held

	held   map[handshakeKey][]heldHandshake
	missed uint64 // that found no room here
	lost   uint64 // that found no room, here or in the kernel
}

// handshakeKey is a connection, but for one after the other on the same tuple.
type handshakeKey struct {
	client, server netip.AddrPort
	zone           uint16
}

type heldHandshake struct {
	flow.Handshake
	start int64 // of the SYN
	at    int64 // when it was read
}

// clockSlack is how far two times of the same packet may lie apart, in ns: the packet path reads a
// clock that moves with the kernel's tick, of up to 10 ms.
const clockSlack = int64(20 * time.Millisecond)

func newHandshakes(h *latency.Handshakes, room int, keep int64) *handshakes {
	return &handshakes{feature: h, room: room, keep: keep, held: map[handshakeKey][]heldHandshake{}}
}

func (h *handshakes) drain(now int64, stop bool) error {
	h.forget(now)
	err := h.feature.Drain(now, stop, func(t *latency.Handshake) { h.add(t, now) })
	lost, lerr := h.feature.Lost()
	if err == nil {
		err = lerr
	}
	h.lost = max(h.lost, lost+h.missed)
	return err
}

func (h *handshakes) add(t *latency.Handshake, now int64) {
	k := handshakeKey{t.Client, t.Server, t.Zone}
	if len(h.held[k]) == 0 && len(h.held) >= h.room {
		h.missed++
		return
	}
	h.held[k] = append(h.held[k], heldHandshake{start: t.Start, at: now, Handshake: flow.Handshake{
		Server: known(t.ToServer), Client: known(t.ToClient),
		SYNRepeats: t.SYNs, SYNACKRepeats: t.SYNACKs}})
}

// known is a time, or nil.
func known(ns int64) *int64 {
	if ns < 0 {
		return nil
	}
	return &ns
}

// forget lets go of handshakes whose connection no record has told of: it is left out.
func (h *handshakes) forget(now int64) {
	for k, all := range h.held {
		for len(all) > 0 && now-all[0].at > h.keep {
			all = all[1:]
		}
		h.put(k, all)
	}
}

func (h *handshakes) put(k handshakeKey, all []heldHandshake) {
	if len(all) == 0 {
		delete(h.held, k)
	} else {
		h.held[k] = all
	}
}

// join adds the first handshake that lies within the record's time.
func (h *handshakes) join(rec *flow.Record) (forget func()) {
	if rec.Protocol != unix.IPPROTO_TCP {
		return nothing
	}
	k := handshakeKey{netip.AddrPortFrom(rec.Src, rec.SrcPort),
		netip.AddrPortFrom(rec.Dst, rec.DstPort), rec.Zone}
	all := h.held[k]
	for i := range all {
		if all[i].start < rec.Start-clockSlack || all[i].start > rec.End+clockSlack {
			continue
		}
		rec.Handshake = &all[i].Handshake
		return func() { h.put(k, append(all[:i:i], all[i+1:]...)) }
	}
	return nothing
}
