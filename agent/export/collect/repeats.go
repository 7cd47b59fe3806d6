package collect

import "github.com/weirnet/weir/agent/flow"

// stream is the reports of one kind of one agent's life.
type stream struct{ boot, kind string }

// id names a report.
type id struct {
	stream
	sequence uint64
}

func idOf(r flow.Report) id {
	boot, sequence := r.Numbered()
	return id{stream{boot, r.Kind()}, sequence}
}

// repeats knows which records have come. A sink sends its records in their order, and sends again
// from where it was not answered: what is not above the highest number of its stream has come before.
type repeats struct {
	max     int // streams that are remembered
	streams map[stream]last
	turn    uint64
}

// last is the highest number of a stream.
type last struct {
	sequence uint64
	turn     uint64 // the higher, the later it was noted
}

// maxStreams is how many lives of agents a collector remembers.
const maxStreams = 8192

func newRepeats(limit int) *repeats { return &repeats{max: limit, streams: map[stream]last{}} }

// has tells whether a record has come before. Agents other than weir do not number their records.
func (r *repeats) has(i id) bool {
	return i.sequence != 0 && i.sequence <= r.streams[i.stream].sequence
}

// note remembers a record. When there are too many streams, the one is forgotten that was silent for
// the longest.
func (r *repeats) note(i id) {
	if i.sequence == 0 {
		return
	}
	known, ok := r.streams[i.stream]
	if !ok && len(r.streams) >= r.max {
		r.forget()
	}
	r.turn++
	r.streams[i.stream] = last{max(known.sequence, i.sequence), r.turn}
}

func (r *repeats) forget() {
	var oldest stream
	turn := r.turn + 1
	for s, l := range r.streams {
		if l.turn < turn {
			oldest, turn = s, l.turn
		}
	}
	delete(r.streams, oldest)
}
