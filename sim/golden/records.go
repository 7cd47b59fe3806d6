package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/result"
)

// Output is what an agent's file sink has written, in its order.
type Output struct {
	Flows []flow.Record
	DNS   []flow.DNS
	Drops []flow.Drop
}

// ParseOutput reads what an agent's file sink has written: JSON, one record per line. Unknown keys
// are an error, and so is a last line that was cut off.
func ParseOutput(file string, data []byte) (*Output, error) {
	out := &Output{}
	for line := 1; len(data) > 0; line++ {
		text, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if err := out.add(text); err != nil {
			return nil, fmt.Errorf("%s:%d: read record: %w", file, line, err)
		}
	}
	return out, nil
}

// add reads one line. Records of features are recognised by their only key.
func (o *Output) add(text []byte) error {
	var r struct {
		flow.Record
		DNS  *flow.DNS  `json:"dns"`
		Drop *flow.Drop `json:"drop"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	switch {
	case r.DNS != nil:
		o.DNS = append(o.DNS, *r.DNS)
	case r.Drop != nil:
		o.Drops = append(o.Drops, *r.Drop)
	default:
		o.Flows = append(o.Flows, r.Record)
	}
	return nil
}

// Records adds up an agent's records, in the order in which they were written, to one canonical
// flow per connection and direction.
//
// The differences are what is wrong with the records as such: a (boot, sequence) pair that comes
// twice, packets that are counted in two records, or that are missing between two. A repeated
// record is not added up again. An agent that took over after a crash reports again what its
// predecessor did not acknowledge; that is no difference, and its record replaces the earlier.
func Records(records []flow.Record, names *Names) ([]Flow, []result.Difference) {
	l := ledger{names: names, flows: map[flowKey]*account{}, ids: map[recordID]bool{}}
	for _, r := range records {
		l.add(r)
	}
	all := make([]Flow, 0, len(l.order))
	for _, a := range l.order {
		all = append(all, a.flow(names))
	}
	return sortFlows(all), l.differences
}

// recordID is what makes a record unique.
type recordID struct {
	boot     string
	sequence uint64
}

// homeless tells that the flow found no room in the table. One that was evicted has a state.
func homeless(r *flow.Record) bool {
	return r.Reason == flow.EndResource && r.State == conntrack.StateNone.String()
}

// flowKey is one direction of one connection. Flows that found no room in the table have no
// identity but their tuple: flow is 0 for them.
type flowKey struct {
	flow     uint64
	tuple    tuple
	overflow bool
}

// account holds the records of one flow that count.
type account struct {
	records []flow.Record
}

// ledger sorts records into accounts.
type ledger struct {
	names       *Names
	flows       map[flowKey]*account
	order       []*account // in the order of their first records
	ids         map[recordID]bool
	differences []result.Difference
}

func recordTuple(r flow.Record) tuple {
	return tuple{r.Zone, r.Src, r.Dst, r.SrcPort, r.DstPort, r.Protocol, r.Cites,
		r.ICMPType, r.ICMPCode, r.ICMPID}
}

func (l *ledger) add(r flow.Record) {
	id := recordID{r.Boot, r.Sequence}
	if l.ids[id] {
		l.differ("duplicate", r, "sequence", "once", strconv.FormatUint(r.Sequence, 10)+" again")
		return
	}
	l.ids[id] = true
	key := flowKey{flow: r.Flow, tuple: recordTuple(r)}
	if homeless(&r) {
		key.flow, key.overflow = 0, true
	}
	a := l.flows[key]
	if a == nil || !key.overflow && a.before(r) {
		a = &account{}
		l.flows[key] = a
		l.order = append(l.order, a)
	}
	if key.overflow {
		a.records = append(a.records, r)
		return
	}
	l.post(a, r)
}

// before tells whether the account is of an earlier flow than the record: flow ids begin anew
// when an agent starts with empty maps.
func (a *account) before(r flow.Record) bool {
	last := a.records[len(a.records)-1]
	return last.Boot != r.Boot && last.Reason != flow.EndActive &&
		r.PacketsBefore == 0 && r.Start > last.End
}

// post adds a record to its account and notes where it does not fit to the ones before.
func (l *ledger) post(a *account, r flow.Record) {
	kept := a.records
	for packets(kept) > r.PacketsBefore && kept[len(kept)-1].Boot != r.Boot {
		kept = kept[:len(kept)-1] // reported again after a crash
	}
	want, got := r.PacketsBefore, packets(kept)
	switch {
	case got == want:
		a.records = append(kept, r)
	case got < want && len(kept) == len(a.records):
		l.differ("missing", r, "packets_before", strconv.FormatUint(got, 10),
			strconv.FormatUint(want, 10))
		a.records = append(kept, r)
	default:
		l.differ("duplicate", r, "packets_before",
			strconv.FormatUint(packets(a.records), 10), strconv.FormatUint(want, 10))
	}
}

// packets is what records say was reported up to the last of them.
func packets(records []flow.Record) uint64 {
	if len(records) == 0 {
		return 0
	}
	last := records[len(records)-1]
	return last.PacketsBefore + last.Packets
}

// differ notes a record that is wrong in one field.
func (l *ledger) differ(kind string, r flow.Record, field, want, got string) {
	a := account{records: []flow.Record{r}}
	f := a.flow(l.names)
	l.differences = append(l.differences, result.Difference{
		Section: "flows", Against: "invariant", Kind: kind, Record: f.record().line(),
		Fields: []result.Field{{Name: field, Want: want, Got: got}},
	})
}

// flow adds the records up. What does not add up is as the last record has it.
func (a *account) flow(names *Names) Flow {
	last := a.records[len(a.records)-1]
	f := recordTuple(last).flow(names)
	var flags flow.TCPFlags
	for _, r := range a.records {
		f.Packets.Value += r.Packets
		f.Bytes.Value += r.Bytes
		flags |= r.Flags
	}
	f.Flags, f.End, f.State = flags.String(), last.Reason.String(), last.State
	f.Initiator, f.ICMPError = initiator(last.Role), last.ICMPError
	f.NATBefore, f.NATAfter = names.other(f, last.NATBefore), names.other(f, last.NATAfter)
	f.Who = whoIsAt(&last)
	hooks := last.Seen
	if homeless(&last) { // these have no memory: each names its own hooks
		hooks = nil
		for _, r := range a.records {
			for _, h := range r.Seen {
				if !slices.Contains(hooks, h) && len(hooks) < 4 {
					hooks = append(hooks, h)
				}
			}
		}
	}
	f.Seen = seen(hooks)
	a.features(&f)
	return f
}
