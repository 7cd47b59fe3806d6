package flow

import (
	"container/list"
	"time"
)

// Deduper finds records that tell of packets which others tell of, too: each direction of a connection is
// believed to who told of it first, for as long as he goes on. An agent of weir tells of each packet once, so
// that who tells is the agent; of others it is an interface of an agent.
type Deduper struct {
	expire   time.Duration
	justMark bool
	known    map[tuple]*list.Element
	order    *list.List // of *believed, who told the latest first
}

// believed is who is believed about a direction of a connection.
type believed struct {
	key     tuple
	witness witness
	expires time.Time
}

type witness struct{ agent, iface string }

// maxBelieved is about how many directions of connections a deduper remembers, with some 300 bytes for each.
const maxBelieved = 1 << 20

// Dedupe makes a deduper. Who has told nothing for longer than expire is believed no more, and the next who tells
// is. justMark: duplicates are marked, and not left out.
func Dedupe(expire time.Duration, justMark bool) *Deduper {
	return &Deduper{expire: expire, justMark: justMark, known: map[tuple]*list.Element{}, order: list.New()}
}

// Keep takes a record that has come from an agent, and tells whether it is a duplicate and whether it is to be
// kept. The agent is told by the record's AgentIP; from, the sender's name or address, is for records without
// one. It must stay the same when the agent is restarted. now never goes back.
func (d *Deduper) Keep(r *Record, from string, now time.Time) (keep, duplicate bool) {
	d.forget(now)
	who := witnessOf(r, from)
	key := tupleOf(r)
	known, ok := d.known[key]
	if !ok {
		d.known[key] = d.order.PushFront(&believed{key, who, now.Add(d.expire)})
		return true, false
	}
	b := known.Value.(*believed)
	if b.witness == who {
		b.expires = now.Add(d.expire)
		d.order.MoveToFront(known)
		return true, false
	}
	r.Duplicate = r.Duplicate || d.justMark
	return d.justMark, true
}

// forget lets go of those who have told nothing for too long; and of those who have told nothing for
// the longest, when there are too many: the next who tells of their connections is believed.
func (d *Deduper) forget(now time.Time) {
	for last := d.order.Back(); last != nil; last = d.order.Back() {
		b := last.Value.(*believed)
		if !now.After(b.expires) && d.order.Len() < maxBelieved {
			return
		}
		delete(d.known, b.key)
		d.order.Remove(last)
	}
}

func witnessOf(r *Record, from string) witness {
	w := witness{agent: from}
	if r.AgentIP.IsValid() {
		w.agent = r.AgentIP.String()
	}
	if r.Boot == "" && len(r.Seen) > 0 {
		w.iface = r.Seen[0].Interface
	}
	return w
}
