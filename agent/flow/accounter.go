package flow

import "net/netip"

// tuple tells directions of connections apart, wherever they are seen.
type tuple struct {
	src, dst                            netip.Addr
	srcPort, dstPort, icmpID, zone      uint16
	protocol, cites, icmpType, icmpCode uint8
}

func tupleOf(r *Record) tuple {
	return tuple{r.Src, r.Dst, r.SrcPort, r.DstPort, r.ICMPID, r.Zone, r.Protocol, r.Cites, r.ICMPType, r.ICMPCode}
}

// Accumulate adds to a record what another one of the same direction of the same connection tells: packets
// and bytes are added, flags are joined, the first and the last packet are the earlier and the later one. A time
// of 0 is none.
func Accumulate(r, src *Record) {
	if r.Start == 0 || src.Start != 0 && src.Start < r.Start {
		r.Start = src.Start
	}
	r.End = max(r.End, src.End)
	r.Packets += src.Packets
	r.Bytes += src.Bytes
	r.Flags |= src.Flags
}

// Accounter adds up records of single packets: the kernel reports a packet on its own when it has no room for
// its connection.
type Accounter struct {
	max   int
	evict func(*Record) error
	sums  []Record // in the order in which they were begun
	at    map[tuple]int
}

// NewAccounter makes one of up to so many sums, at least 1. They go to evict, in the order in which they
// were begun; what it is given is valid during the call.
func NewAccounter(maxEntries int, evict func(*Record) error) *Accounter {
	return &Accounter{max: max(1, maxEntries), evict: evict, at: map[tuple]int{}}
}

// Account adds a record to the sum of its tuple. One that would be one too many has all others evicted first.
func (a *Accounter) Account(r *Record) error {
	key := tupleOf(r)
	if i, ok := a.at[key]; ok {
		Accumulate(&a.sums[i], r)
		return nil
	}
	if len(a.sums) >= a.max {
		if err := a.Evict(); err != nil {
			return err
		}
	}
	a.at[key] = len(a.sums)
	a.sums = append(a.sums, *r)
	return nil
}

// Evict hands over all sums, and begins anew. When that fails, none are left.
func (a *Accounter) Evict() error {
	defer a.Reset()
	for i := range a.sums {
		if err := a.evict(&a.sums[i]); err != nil {
			return err
		}
	}
	return nil
}

// Reset forgets all sums.
func (a *Accounter) Reset() {
	clear(a.at)
	clear(a.sums) // they hold on to names
	a.sums = a.sums[:0]
}
