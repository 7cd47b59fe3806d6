package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/latency"
)

// DNSSink is a Sink that also takes DNS records. Flush is for both.
type DNSSink interface {
	WriteDNS(*flow.DNS) error
}

// lookups writes DNS records, and holds sums for flow records. Records are kept until the sink has
// them safe, so that one that fails for a while costs nothing but repeats.
type lookups struct {
	signature
	feature *latency.DNS
	sink    DNSSink
	timeout time.Duration
	room    int   // records that are kept, and connections
	keep    int64 // ns that sums are held for a flow record

	next    uint64 // sequence
	kept    []flow.DNS
	missed  uint64                  // records that found no room here, not told yet
	dropped uint64                  // of those, ever
	lost    uint64                  // messages that found no room, here or in the kernel
	told    [latency.Reasons]uint64 // messages that records have told
	held    map[lookupKey]*heldLookups
}

type lookupKey struct {
	client, server netip.AddrPort
	zone           uint16
	protocol       uint8
}

type heldLookups struct {
	flow.Lookups
	sum int64 // of all latencies
	at  int64 // when it was last added to
}

// reasonNoRoom is the reason of records that the sink did not take in time.
const reasonNoRoom = "sink"

func (d *lookups) drain(now int64, stop bool) error {
	d.forget(now)
	err := d.feature.Drain(now, d.timeout, stop, func(t *latency.Transaction) {
		d.add(t, now)
		d.record(dnsRecord(t))
	})
	counts, cerr := d.feature.Counts()
	if cerr == nil {
		d.losses(&counts)
	}
	if werr := d.write(); werr != nil {
		err = errors.Join(err, fmt.Errorf("%w (they are written again)", werr))
	}
	return errors.Join(err, cerr)
}

// record keeps a record, if there is room.
func (d *lookups) record(r flow.DNS) {
	if len(d.kept) >= d.room {
		d.missed++
		d.dropped++
		return
	}
	d.next++
	r.Boot, r.Sequence, r.AgentIP = d.boot, d.next, d.agentIP
	d.kept = append(d.kept, r)
}

// losses makes records of the messages that are not told otherwise. While there is no room they wait.
func (d *lookups) losses(counts *[latency.Reasons]uint64) {
	d.lost = max(d.lost, counts[latency.TableFull]+counts[latency.RingFull]+d.dropped)
	for r, n := range counts {
		if n == d.told[r] || len(d.kept) >= d.room {
			continue
		}
		reason, outcome := latency.Reason(r), flow.DNSUnreadable
		if reason == latency.TableFull || reason == latency.RingFull {
			outcome = flow.DNSLost
		}
		d.record(flow.DNS{Outcome: outcome, Reason: reason.String(), Messages: n - d.told[r]})
		d.told[r] = n
	}
	if d.missed > 0 && len(d.kept) < d.room {
		missed := d.missed
		d.missed = 0
		d.record(flow.DNS{Outcome: flow.DNSLost, Reason: reasonNoRoom, Messages: missed})
	}
}

func (d *lookups) write() error {
	for i := range d.kept {
		if err := d.sink.WriteDNS(&d.kept[i]); err != nil {
			return err
		}
	}
	return nil
}

// written lets go of the records: the sink has flushed them.
func (d *lookups) written() { d.kept = d.kept[:0] }

func dnsRecord(t *latency.Transaction) flow.DNS {
	r := flow.DNS{Outcome: t.Outcome.String(), Zone: t.Zone, Protocol: t.Protocol,
		Client: t.Client.Addr(), ClientPort: t.Client.Port(),
		Server: t.Server.Addr(), ServerPort: t.Server.Port(), ID: t.ID,
		Repeats: t.Repeats, Start: t.Query, End: t.Response}
	if t.Name != "" {
		r.Name, r.Type = t.Name, flow.DNSType(t.Type)
	}
	if t.Response != 0 {
		r.Rcode, r.Truncated = flow.Rcode(t.Rcode), t.Truncated
	}
	if t.Outcome == latency.Answered {
		ns := t.Response - t.Query
		r.Latency = &ns
	}
	return r
}

// add sums up for the connection's record.
func (d *lookups) add(t *latency.Transaction, now int64) {
	if t.Outcome == latency.Unasked || t.Outcome == latency.Open {
		return
	}
	k := lookupKey{t.Client, t.Server, t.Zone, t.Protocol}
	h := d.held[k]
	if h == nil {
		if len(d.held) >= d.room {
			return // its own record tells of it
		}
		h = &heldLookups{}
		d.held[k] = h
	}
	h.at = now
	if t.Outcome == latency.Unanswered {
		h.Unanswered++
		return
	}
	ns := t.Response - t.Query
	h.Answered++
	h.sum += ns
	h.Max, h.Mean = max(h.Max, ns), h.sum/int64(h.Answered)
	h.Rcode = flow.Rcode(t.Rcode)
	if t.Rcode != 0 {
		h.Failed++
	}
}

// forget lets go of sums whose connection no record has told of: it is left out.
func (d *lookups) forget(now int64) {
	for k, h := range d.held {
		if now-h.at > d.keep {
			delete(d.held, k)
		}
	}
}

// join adds the sums to a record.
func (d *lookups) join(rec *flow.Record) (forget func()) {
	k := lookupKey{netip.AddrPortFrom(rec.Src, rec.SrcPort),
		netip.AddrPortFrom(rec.Dst, rec.DstPort), rec.Zone, rec.Protocol}
	h := d.held[k]
	if h == nil {
		return nothing
	}
	rec.Lookups = &h.Lookups
	return func() { delete(d.held, k) }
}
