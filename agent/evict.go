package agent

import (
	"math/bits"

	"github.com/weirnet/weir/bpf"
)

// Values of Table.Full: what happens to packets that would open a connection in a full table.
const (
	fullOverflow = "overflow"
	fullReject   = "reject"
	fullEvict    = "evict"
)

// roomy is how many connections a table may hold before some are evicted: 90 % of its size.
func roomy(size int) int { return size * 9 / 10 }

// makeRoom ends connections where the tables hold more than that, and has the datapath tell when they are
// full again. Where too few are unanswered it does not: sweeps at once would find no more.
func (s *sweeper) makeRoom(pass *bpf.Pass, now int64) (err error) {
	room, limit := true, roomy(s.dp.Options().Table)
	if pass.Held(4) > limit || pass.Held(6) > limit {
		room, err = s.evict(limit, now)
	}
	if err == nil {
		err = s.arm(room)
	}
	return err
}

func (s *sweeper) arm(on bool) error {
	s.armed = on
	return s.dp.SetAlarm(on)
}

// evict ends those unanswered connections that have been idle for the longest, until neither table
// holds more than the limit: README of bpf, section 6. It goes through the tables twice, and needs
// little memory however many there are: first it counts by age, then it ends what is old enough.
func (s *sweeper) evict(limit int, now int64) (room bool, err error) {
	var tables [2]ages // IPv4 and IPv6
	err = s.dp.Walk(func(e *bpf.Entry) error {
		tables[e.Family/6].add(e, now)
		return nil
	})
	if err != nil {
		return false, err
	}
	var quotas [2]quota
	for i := range tables {
		quotas[i] = tables[i].oldest(tables[i].held - limit)
	}
	room = quotas[0] != everyone && quotas[1] != everyone
	return room, s.cut(now, func(e *bpf.Entry) bool {
		return e.Unanswered() && quotas[e.Family/6].take(now-e.Last())
	}, func(k bpf.Key) bpf.Candidate { return bpf.Candidate{Key: k, Evict: true} })
}

// cut ends connections for want of room of some kind: those that are chosen, as far as the candidate that is
// made of each allows.
func (s *sweeper) cut(now int64, chosen func(*bpf.Entry) bool, candidate func(bpf.Key) bpf.Candidate) error {
	pass := s.dp.Pass(bpf.Wanted{Now: now, All: true})
	for more := true; more; {
		begun := len(s.ends)
		var err error
		more, err = pass.Next(bpf.Show{Entry: func(e *bpf.Entry) error {
			if chosen(e) {
				s.ends = append(s.ends, candidate(e.Key()))
			}
			return nil
		}})
		if err != nil {
			return err
		}
		if err := s.retire(begun, !more, now, false); err != nil {
			return err
		}
	}
	return nil
}

// ages counts the connections of a table, and those that are unanswered by how long they have
// been idle.
type ages struct {
	held  int
	count [ageClasses]int
}

// Ages are told apart to the tick while they are short, and to 3 % when they are longer: each
// doubling of the ticks has 32 classes, up to the 39 bits that 63 bits of ns have of them.
const (
	ageTick    = 24 // a tick is 2^24 ns, 16.8 ms
	ageBits    = 5
	ageClasses = (63 - ageTick - ageBits + 1) << ageBits
)

// ageClass is the higher the longer the time is, in ns.
func ageClass(idle int64) int {
	ticks := uint64(max(idle, 0)) >> ageTick
	coarse := max(bits.Len64(ticks)-ageBits-1, 0)
	return coarse<<ageBits + int(ticks>>coarse)
}

func (a *ages) add(e *bpf.Entry, now int64) {
	a.held++
	if e.Unanswered() {
		a.count[ageClass(now-e.Last())]++
	}
}

// oldest chooses n of those that are unanswered, or all when there are fewer.
func (a *ages) oldest(n int) quota {
	if n <= 0 {
		return nobody
	}
	for class := ageClasses - 1; class >= 0; class-- {
		if a.count[class] >= n {
			return quota{class, n}
		}
		n -= a.count[class]
	}
	return everyone
}

// quota says which connections go: those of a higher class than this one, and so many of it.
type quota struct{ class, more int }

var (
	nobody   = quota{class: ageClasses}
	everyone = quota{class: -1}
)

func (q *quota) take(idle int64) bool {
	class := ageClass(idle)
	if class == q.class && q.more > 0 {
		q.more--
		return true
	}
	return class > q.class
}
