package latency

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"
	"unsafe"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/batch"
	"github.com/weirnet/weir/bpf/beside"
)

// Outcome says what a Transaction is.
type Outcome uint8

// The outcomes (enum outcome, but for Unanswered and Open, which user space finds).
const (
	Answered   Outcome = 1 // a query and its response
	Unanswered Outcome = 2 // a query to which no response came in time
	Unasked    Outcome = 3 // a response whose query was not seen
	Open       Outcome = 4 // a query whose response was still waited for at the end
)

// String returns the outcome's name.
func (o Outcome) String() string {
	switch o {
	case Answered:
		return "answered"
	case Unanswered:
		return "unanswered"
	case Unasked:
		return "unasked"
	case Open:
		return "open"
	}
	return fmt.Sprintf("outcome-%d", uint8(o))
}

// Transaction is a DNS query, its response, or both.
type Transaction struct {
	Zone           uint16
	Protocol       uint8 // 17 or 6
	Client, Server netip.AddrPort
	ID             uint16
	Outcome        Outcome
	// Question is the first one of the query; of the response, when there was no query.
	Question
	Rcode     uint8 // the lower four bits, which the header has
	Truncated bool
	// Query and Response are the times at which a hook first saw them, in ns; 0: not.
	Query, Response int64
	Repeats         uint32 // how often the hook that saw the query first saw it again
}

// Reason says why messages are not told.
type Reason int

// The reasons (enum reason).
const (
	ShortMessage   Reason = iota // the message is shorter than its header
	WrongWay                     // a response to a server, or a query from one
	CompressedName               // a pointer, or another label of no known kind, in the question
	LongName                     // longer than 255 bytes
	CutQuestion                  // the message ends within its question
	TableFull                    // a query, of which nothing more can be told
	RingFull                     // a response
	Reasons                      // how many there are
)

var reasonNames = [Reasons]string{"short", "wrong-way", "compressed-name", "long-name",
	"cut-question", "table-full", "ring-full"}

// String returns the reason's name.
func (r Reason) String() string { return reasonNames[r] }

// answeredFor is how long a query is kept after its answer, in ns: other hooks see that, too.
const answeredFor = int64(time.Second)

// DNS is the feature dns. Its methods may not be called concurrently.
type DNS struct {
	beside.Program
	objs   dnsObjects
	events *bpf.Ring
}

// OpenDNS loads the feature; the ports are those of DNS servers.
func OpenDNS(ports []uint16, o Options) (*DNS, error) {
	spec, err := loadDns()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	var set [65536 / 64]uint64
	for _, p := range ports {
		set[p/64] |= 1 << (p % 64)
	}
	if err := spec.Variables[dnsVarPorts].Set(set); err != nil {
		return nil, fmt.Errorf("set the ports: %w", err)
	}
	d := &DNS{}
	if err := beside.Load(spec, dnsMapQueries, o, &d.objs); err != nil {
		return nil, err
	}
	if d.events, err = bpf.OpenRing(d.objs.Events); err != nil {
		return nil, errors.Join(err, d.objs.Close())
	}
	d.Program, err = beside.Start(beside.Parts{Place: places[FeatureDNS], Code: d.objs.WeirDns,
		Jump: d.objs.Jump, Places: d.objs.Places, Now: d.objs.VirtualNow})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close takes the feature out of the kernel; what was not read is lost.
func (d *DNS) Close() error {
	return errors.Join(d.DetachAll(), d.events.Close(), d.objs.Close())
}

// pair is what makes a query unique.
type pair struct {
	key dnsQueryKey
	at  uint64
}

// Drain calls fn for each response since the last call, and for each query that was sent more
// than timeout before now and has none; at the stop, for each other query without one as well. What fn
// is given is valid during the call.
func (d *DNS) Drain(now int64, timeout time.Duration, stop bool, fn func(*Transaction)) error {
	late, err := d.expire(now, int64(timeout), stop)
	if err != nil {
		return fmt.Errorf("go through the DNS queries: %w", err)
	}
	if len(late) > 0 { // a response may be on its way to the ring buffer
		err = bpf.Grace()
	}
	var t Transaction
	ring := d.events.Each(func(raw []byte) error {
		r, err := decodeResponse(raw)
		if err != nil {
			return err
		}
		delete(late, pair{r.Key, r.At})
		t = r.transaction()
		fn(&t)
		return nil
	})
	d.events.Release()
	for p, q := range late {
		t = transaction(&p.key)
		t.Outcome, t.Query, t.Repeats = Unanswered, int64(q.At), q.Repeats
		if now-t.Query <= int64(timeout) {
			t.Outcome = Open
		}
		t.Question = question(q.Question.Asked, q.Question.Type, q.Question.Name[:q.Question.Length])
		fn(&t)
	}
	if err := errors.Join(err, ring); err != nil {
		return fmt.Errorf("read the DNS responses: %w", err)
	}
	return nil
}

// expire deletes the queries that are done with, at the stop all, and returns those without an answer.
func (d *DNS) expire(now, timeout int64, stop bool) (map[pair]dnsQuery, error) {
	var done []dnsQueryKey
	late := map[pair]dnsQuery{}
	err := batch.Each(d.objs.Queries, func(k *dnsQueryKey, q *dnsQuery) {
		switch {
		case q.Answered != 0 && now-int64(q.Answered) > answeredFor:
			done = append(done, *k)
		case q.Answered == 0 && (stop || now-int64(q.At) > timeout):
			done = append(done, *k)
			late[pair{*k, q.At}] = *q
		}
	})
	for i := range done {
		_ = d.objs.Queries.Delete(&done[i]) // nobody else deletes
	}
	return late, err
}

// Counts returns how many messages were not told since the feature was opened, by reason. A message is
// counted at every hook that sees it.
func (d *DNS) Counts() ([Reasons]uint64, error) {
	var sum [Reasons]uint64
	var all []dnsCounts
	if err := d.objs.Counts.Lookup(uint32(0), &all); err != nil {
		return sum, fmt.Errorf("read the DNS counters: %w", err)
	}
	for _, c := range all {
		for r := range sum {
			sum[r] += c.Messages[r]
		}
	}
	return sum, nil
}

// decodeResponse reads a response as the program wrote it. It refuses what it cannot have written.
func decodeResponse(raw []byte) (*dnsResponse, error) {
	var r dnsResponse
	if len(raw) < int(unsafe.Sizeof(r)) {
		return nil, fmt.Errorf("DNS response of %d bytes, want %d", len(raw), unsafe.Sizeof(r))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), raw)
	if o := Outcome(r.Outcome); o != Answered && o != Unasked {
		return nil, fmt.Errorf("DNS response with outcome %d, want %d or %d", o, Answered, Unasked)
	}
	if f := r.Key.Family; f != 4 && f != 6 {
		return nil, fmt.Errorf("DNS response with family %d, want 4 or 6", f)
	}
	return &r, nil
}

func (r *dnsResponse) transaction() Transaction {
	t := transaction(&r.Key)
	t.Outcome, t.Rcode, t.Truncated = Outcome(r.Outcome), r.Rcode, r.Truncated != 0
	t.Query, t.Response, t.Repeats = int64(r.At), int64(r.End), r.Repeats
	t.Question = question(r.Question.Asked, r.Question.Type, r.Question.Name[:r.Question.Length])
	return t
}

func transaction(k *dnsQueryKey) Transaction {
	return Transaction{Zone: k.Zone, Protocol: k.Proto, ID: bits.ReverseBytes16(k.Id),
		Client: endpoint(k.Family, &k.Client, k.ClientPort),
		Server: endpoint(k.Family, &k.Server, k.ServerPort)}
}

// endpoint converts an address as keys have it, and a port in network order.
func endpoint(family uint8, words *[2]uint64, port uint16) netip.AddrPort {
	raw := (*[16]byte)(unsafe.Pointer(words))
	a := netip.AddrFrom16(*raw)
	if family == 4 {
		a = netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrPortFrom(a, bits.ReverseBytes16(port))
}
