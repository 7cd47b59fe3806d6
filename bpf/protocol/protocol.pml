/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The protocol between the packet path (../quick.h, ../track.h, ../entry.h), the collect program (../collect.h)
 * and the sweep (../../agent/sweep.go), for spin. README.md says what is checked, and how.
 *
 * One transition is one access to what others can see; what a process does alone is folded into
 * the transition before it. Time is not kept: wherever the code asks whether a connection has
 * expired, or whether a packet opens another one, both answers are tried, each time anew.
 *
 * Sizes, set with -D:
 */
#ifndef CPUS
#define CPUS 2 /* packet CPUs */
#endif
#ifndef PACKETS
#define PACKETS 2 /* that the first of them may send */
#endif
#ifndef FEWER
#define FEWER PACKETS /* that the second may send, not more than PACKETS */
#endif
#define packets_of(cpu) (cpu == 0 -> PACKETS : FEWER)
#ifndef SWEEPS
#define SWEEPS 1 /* before the one that stops the agent */
#endif
#ifndef TUPLES
#define TUPLES 1 /* that packets choose from */
#endif
#ifndef DRAINS
#define DRAINS 0 /* times that events are read between sweeps */
#endif
#ifndef ELEMENTS
#define ELEMENTS 1 /* of the preallocated hash */
#endif
#ifndef RING
#define RING 1 /* events that the ring buffer holds */
#endif
/* -DITERATE has the sweep look at entries without their lock, as the iterator does.
 * -DOPENS_FIRST has any packet open a connection before it looks for one, as a SYN does.
 * -DKILL adds one kill of the agent at any moment, and an agent that takes over.
 * -DBUG_... seeds a bug; README.md lists them.
 */

#if TUPLES > ELEMENTS
#define FILLS /* a table can be full */
#endif

#define TRIES 2
#define NONE  0 /* no element, no flow */

/* enum conn_life */
#define LIVE	0
#define RETIRED 1
#define DEAD	2
#define ENDING	3

/* What became of a packet, as in state.h; LONG_WAY: look it up, as the long way does. */
#define ACCOUNTED 0
#define AGAIN	  1
#define NO_PLACE  2
#define ENDED	  3
#define LONG_WAY  4
#define QUICK	  5 /* c was looked up by the short way */
#define FOUND	  6 /* c was looked up by the long way */
#define REPLACE	  7 /* c was looked up to be replaced */
#define COUNT	  8 /* checks passed: count it */
#define HANDED	  9 /* c is ending */
#define STAY	  10 /* there is no room for its last record */
#define INSERT	  11 /* c is being copied into the table */
#define FULL	  12 /* it found no room */
#define FIRST	  13 /* open before looking */

/* struct conn4, and whether the hash has handed the element out. */
typedef element {
	unsigned key : 2;
	unsigned life : 2;
	unsigned id : 4;
	unsigned packets : 4;
	unsigned reported : 4;
	bit lock;
	bit used
}

#define EVENT_REPLACED 1
#define EVENT_PACKET   2

typedef event {
	unsigned kind : 2;
	unsigned key : 2;
	unsigned id : 4;
	unsigned packets : 4;
	unsigned reported : 4
}

/* The kernel's side: it outlives the agent. Index 0 of elements and tuples is not used. */
element e[ELEMENTS + 1];
byte table[TUPLES + 1]; /* tuple -> element */
bit bucket[TUPLES + 1]; /* the hash's own lock, held while an element is inserted */
event ring[RING];
byte waiting;  /* events in it */
byte reserved; /* room in it for events that are being written */
byte lost;    /* packets counted as ring-full or table-full */
byte sent;    /* packets that came to the hook */
bit detached; /* the hook is off */
#ifdef FILLS
byte deletions = 1; /* of elements from the table */
byte full_at;	    /* what that was before the last insertion that found no room */
bit uncounted;	    /* an element is deleted and not counted yet */
#else
#define uncounted false
#endif
bit in_path[CPUS];
bit awaited[CPUS]; /* grace has seen this CPU in the packet path, and it has not left since */

/* What the receiver of the records knows: of each flow which packets, one bit each, and whether
 * it has ended. A flow's id is the number of the packet that began it.
 */
#define FLOWS ((CPUS - 1) * FEWER + PACKETS + 1)
byte told[FLOWS];
bit ended[FLOWS];
#ifdef CLAIM_SAME_START
byte starts[FLOWS];
#endif
#ifdef KILL
bit die;    /* the kill that is due */
bit killed; /* it has happened */
#else
#define killed false
#endif

#define bits(n)		((1 << (n)) - 1)
#define range(a, b)	(bits(b) & ~bits(a))

/* recorder.connection: packets number `from` up to `to` of a flow. */
inline record(flow, from, to, ends)
{
	assert(flow != NONE);
	assert(to >= from); /* no delta below zero */
	assert((told[flow] & bits(from)) == bits(from)); /* nothing left out */
#ifdef CLAIM_SAME_START
	/* Stricter than what holds: a repeat begins where the record that it repeats began. */
	assert(!(told[flow] & range(from, to)) || (starts[flow] & (1 << from)));
	assert(!(starts[flow] & range(from + 1, to)));
	starts[flow] = starts[flow] | (1 << from);
#endif
	assert(killed || !(told[flow] & range(from, to))); /* nothing twice */
	assert(killed || !ended[flow]);				/* nothing after the end */
	told[flow] = told[flow] | range(from, to);
	ended[flow] = ended[flow] | ends
}

/* ---- The packet path. Used in proctype cpu alone; c, k, life, result, tries and old_... are its
 * variables, new_id is the flow id of a connection that this packet begins.
 */
#define new_id (1 + me * PACKETS + n - 1)

/* bpf_ringbuf_submit, of what was reserved. Events are in the order in which they are submitted: no two are of one flow. */
inline submit(what, flow, counted, mark)
{
	ring[waiting].kind = what;
	ring[waiting].key = k;
	ring[waiting].id = flow;
	ring[waiting].packets = counted;
	ring[waiting].reported = mark;
	waiting++
}

/* bpf_ringbuf_reserve */
inline reserve()
{
	if
	:: waiting + reserved < RING -> reserved++
	:: else -> result = STAY
	fi
}

/* A CPU comes in with its first lookup and leaves with its last access: in between it would
 * only let others wait.
 */
inline enter()
{
	in_path[me] = 1;
	sent++;
	n++;
	if
	:: k = 1
#if TUPLES > 1
	:: k = 2
#endif
	fi;
	if
	:: result = QUICK
	:: result = FOUND; tries = 1
#ifdef OPENS_FIRST
	:: result = FIRST
#endif
	fi;
	c = table[k]
}

inline leave()
{
	in_path[me] = 0;
	awaited[me] = 0;
	k = 0;
	c = 0;
	tries = 0;
#ifdef FILLS
	mark = 0;
#endif
	result = ACCOUNTED
}

/* count_packet: outside the lock, as the short way does. */
inline count_packet()
{
	atomic { counted(); leave() }
}

inline counted()
{
	assert(e[c].used && e[c].key == k); /* a connection of this packet's tuple */
	e[c].packets++
}

/* no_place */
inline no_place()
{
	atomic {
		if
		:: waiting + reserved < RING -> submit(EVENT_PACKET, new_id, 1, 0)
		:: else -> lost++
		fi;
		leave()
	}
}

/* open4, and what bpf_map_update_elem with BPF_NOEXIST does in it: it takes any free element
 * (each CPU has a list of its own) and copies the value into it from its beginning to its end,
 * without the entry's lock, while a CPU that has held the element since before it was freed may
 * read it.
 */
inline open()
{
#ifdef FILLS
	mark = deletions;
	if
	:: full_at == mark -> result = NO_PLACE /* as it was, nothing was deleted since */
	:: else
	fi;
#endif
	if
	:: result == NO_PLACE
	:: else -> insert()
	fi
}

inline insert()
{
	atomic {
		!bucket[k];
		if
		:: table[k] != NONE -> result = AGAIN /* EEXIST */
		:: table[k] == NONE && !e[1].used -> c = 1
#if ELEMENTS > 1
		:: table[k] == NONE && !e[2].used -> c = 2
#endif
		:: else -> result = FULL /* E2BIG */
		fi;
		if
		:: c != NONE ->
			result = INSERT;
			bucket[k] = 1;
			e[c].used = 1;
#ifndef BUG_KEY_AFTER_LIFE
			e[c].key = k;
#endif
#ifndef BUG_LIFE_BEFORE_COUNTERS
			e[c].packets = 1;
			e[c].reported = 0;
#endif
			e[c].id = new_id
		:: else
		fi
	}
	if
	:: result == INSERT ->
		e[c].life = LIVE;
#ifdef BUG_LIFE_BEFORE_COUNTERS
		atomic { e[c].packets = 1; e[c].reported = 0 }
#endif
#ifdef BUG_KEY_AFTER_LIFE
		e[c].key = k;
#endif
		atomic { table[k] = c; bucket[k] = 0; leave() }
#ifdef FILLS
	:: result == FULL ->
#ifdef BUG_COUNT_READ_LATE
		mark = deletions;
#endif
		atomic { full_at = mark; result = NO_PLACE }
#endif
	:: else
	fi
}

/* quick_judge */
inline quick()
{
#ifdef BUG_COUNT_BEFORE_KEY
	atomic {
		if
		:: c != NONE && e[c].life == LIVE -> result = COUNT
		:: result = LONG_WAY
		fi
	}
#else
	life = e[c].life;
	atomic {
		if
		:: life == LIVE && e[c].key == k -> result = COUNT
		:: result = LONG_WAY /* also: not plain, or it has expired */
		fi;
		life = 0
	}
#endif
}

/* update, which counts under the lock: what else it changes does not matter here. The lock does not
 * hold an insertion off, therefore it reads life and then the key.
 */
inline update()
{
#ifdef BUG_UPDATE_READS_KEY_FIRST
	atomic { !e[c].lock; e[c].lock = 1; life = e[c].key }
	atomic {
		if
		:: life != k -> result = AGAIN
		:: life == k && e[c].life == LIVE -> result = ACCOUNTED
		:: life == k -> result = ENDED
		fi;
#else
	atomic { !e[c].lock; e[c].lock = 1; life = e[c].life }
	atomic {
		if
		:: e[c].key != k -> result = AGAIN
		:: e[c].key == k && life == LIVE -> result = ACCOUNTED
		:: e[c].key == k -> result = ENDED /* also: expired, or the packet opens another */
		fi;
#endif
		e[c].lock = 0;
		life = 0;
		if
		:: result == ACCOUNTED -> counted(); leave()
		:: else
		fi
	}
}

/* take_end */
inline take_end()
{
#ifdef BUG_REPLACE_READS_KEY_FIRST
	atomic { !e[c].lock; e[c].lock = 1; life = e[c].key }
	atomic {
		if
		:: life != k -> result = AGAIN
		:: else ->
			life = e[c].life;
#else
	atomic { !e[c].lock; e[c].lock = 1; life = e[c].life }
	atomic {
		if
		:: e[c].key != k -> result = AGAIN
		:: else ->
#endif
			if
			:: life == DEAD || life == ENDING -> result = NO_PLACE
			:: life == LIVE -> result = AGAIN
			:: life == LIVE || life == RETIRED ->
				result = HANDED;
				old_life = life;
				e[c].life = ENDING
			fi
		fi;
		life = 0;
		e[c].lock = 0
	}
}

/* give_place. Who takes the lock sees it as one step, the iterator does not: ENDING says that the
 * rest is being written.
 */
inline give_place()
{
	atomic {
		!e[c].lock;
		e[c].lock = 1;
		old_id = e[c].id;
		old_packets = e[c].packets;
		old_reported = e[c].reported
	}
#ifdef ITERATE
	give_count();
#ifdef BUG_LIVE_BEFORE_WRITTEN
	e[c].life = LIVE;
#endif
	e[c].id = new_id;
	e[c].reported = 0;
	atomic { counted(); e[c].life = LIVE; e[c].lock = 0 }
#else
	atomic {
		give_count();
		e[c].id = new_id;
		e[c].reported = 0;
		counted();
		e[c].life = LIVE;
		e[c].lock = 0
	}
#endif
	atomic {
		reserved--;
		submit(EVENT_REPLACED, old_id, old_packets, old_reported);
		old_id = 0;
		old_packets = 0;
		old_reported = 0;
		old_life = 0;
		leave()
	}
}

inline give_count()
{
#ifdef BUG_REPLACE_STORES_ZERO
	e[c].packets = 0
#else
	e[c].packets = e[c].packets - old_packets
#endif
}

/* replace: take_end, and where there is room for the record give_place, else stay. */
inline replace()
{
	take_end();
	if
	:: result == HANDED ->
		atomic { reserve() }
		if
		:: result == HANDED ->
			give_place()
		:: else ->
			atomic {
				!e[c].lock;
				e[c].life = old_life;
				old_life = 0;
#ifndef BUG_RING_FULL_IS_SILENT
				lost++;
#endif
				leave()
			}
		fi
	:: else
	fi
}

/* weir_packet, weir_long_way, track. A cache of counters before the table, with one writer for
 * each CPU, would be asked before QUICK, and be folded into the table by the sweep before it
 * walks.
 */
inline packet()
{
	do
	:: result == QUICK && c == NONE -> result = LONG_WAY
	:: result == QUICK && c != NONE -> quick()
	:: atomic { result == LONG_WAY || (result == AGAIN && tries < TRIES) ->
		tries++; c = table[k]; result = FOUND }
#ifdef OPENS_FIRST
	:: result == FIRST ->
		c = NONE;
		open();
		if
		:: result == AGAIN || result == NO_PLACE -> result = LONG_WAY
		:: else
		fi
#endif
	:: result == FOUND && c == NONE -> open()
	:: result == FOUND && c != NONE -> update()
	:: atomic { result == ENDED ->
		c = table[k]; result = (c == NONE -> AGAIN : REPLACE) }
	:: result == REPLACE -> replace()
	:: result == COUNT -> count_packet()
	:: result == NO_PLACE || (result == AGAIN && tries == TRIES) -> no_place()
	:: result == ACCOUNTED -> break
	od
}

proctype cpu(byte me)
{
	byte n; /* packets that have come */
	byte k, c, life, result, tries, old_id, old_packets, old_reported, old_life;
#ifdef FILLS
	byte mark; /* deletions, before an insertion */
#endif

	do
	:: atomic { n < packets_of(me) && !detached -> enter() }
		packet()
	:: atomic { n == packets_of(me) || detached -> break }
	od
}

/* ---- The sweep: sweep.go, through work.go and collect.h. */

/* A sweeper's mark or candidate; there is at most one for a tuple. */
#define NOTHING	   0
#define MARK	   1 /* reported as active */
#define END	   2 /* to be retired */
#define LATE	   3 /* reported, replaced before the datapath could be told */
#define LATE_ENDED 4 /* the same, with its end */

typedef candidate {
	unsigned what : 3;
	unsigned id : 4;
	unsigned packets : 4;
	unsigned reported : 4
}

#define forget_all(t) forget(mine[t]); forget(ending[t]); forget(sum[t])
#define forget(x) x.what = NOTHING; x.id = 0; x.packets = 0; x.reported = 0

#if TUPLES > 1
#define each_tuple(step) step(1); step(2)
#else
#define each_tuple(step) step(1)
#endif

/* Grace: every CPU that is in the packet path leaves it once. */
inline grace()
{
	atomic {
		awaited[0] = in_path[0];
#if CPUS > 1
		awaited[1] = in_path[1]
#endif
	}
#if CPUS > 1
	!awaited[0] && !awaited[1]
#else
	!awaited[0]
#endif
}

/* What becomes of the entry that was seen. */
inline choose(t)
{
	if
	:: seen.id == NONE
	:: seen.id != NONE ->
		if
		:: mine[t].what = END /* it has expired */
		:: !stop && seen.id != ending[t].id && seen.packets != seen.reported ->
			mine[t].what = MARK
		:: !stop && seen.id != ending[t].id
		fi
	fi;
	if
	:: mine[t].what != NOTHING ->
		mine[t].id = seen.id;
		mine[t].packets = seen.packets;
		mine[t].reported = seen.reported
	:: else
	fi;
	forget(seen);
	w = 0
}

#ifndef ITERATE
/* Walk, for one tuple: a copy under the entry's lock. */
inline walk(t)
{
#ifdef BUG_WALK_WITHOUT_LOCK
	seen.id = e[table[t]].id;
	atomic {
#else
	atomic {
		!e[table[t]].lock;
		seen.id = e[table[t]].id;
#endif
		seen.packets = e[table[t]].packets;
		seen.reported = e[table[t]].reported;
		seen.id = (e[table[t]].life == ENDING -> NONE : seen.id);
		choose(t)
	}
}
#else
/* The same by the iterator: `show` in ../iter.bpf.c. Nothing is deleted meanwhile, but by the agent itself. */
inline walk(t)
{
	atomic { w = table[t]; seen.id = e[w].id }
#ifndef BUG_NOT_LOOKED_BEFORE
	look_at_life();
	look_at_id();
#endif
	seen.packets = e[w].packets;
	seen.reported = e[w].reported;
#ifdef BUG_NOT_LOOKED_AGAIN
	choose(t)
#else
#ifdef BUG_ID_BEFORE_LIFE
	look_at_id();
	atomic { look_at_life(); choose(t) }
#else
	look_at_life();
	atomic { look_at_id(); choose(t) }
#endif
#endif
}

/* holds */
inline look_at_life()
{
	seen.id = (e[w].life == LIVE || e[w].life == RETIRED -> seen.id : NONE)
}

inline look_at_id()
{
	seen.id = (e[w].id == seen.id -> seen.id : NONE)
}
#endif

/* Records become safe at the flush, one after the other. */
inline write_marks(t)
{
	atomic {
		if
		:: mine[t].what == MARK ->
			record(mine[t].id, mine[t].reported, mine[t].packets, 0)
		:: else
		fi
	}
}

/* WORK_ACK. Like all of do_work one transition under the entry's lock. An entry whose last
 * record is on its way takes the mark, too, for it may stay; its event is measured from `late`.
 */
inline acknowledge(t)
{
	atomic {
		mine[t].what != MARK || !e[table[t]].lock;
		if
		:: mine[t].what == MARK ->
			if
#ifdef BUG_ACK_ANY_FLOW
			:: table[t] != NONE && e[table[t]].life != ENDING ->
#else
			:: e[table[t]].id == mine[t].id && e[table[t]].life != ENDING ->
#endif
				e[table[t]].reported = mine[t].packets;
				forget(mine[t])
			:: e[table[t]].id == mine[t].id && e[table[t]].life == ENDING ->
#ifndef BUG_NO_ACK_WHILE_ENDING
				e[table[t]].reported = mine[t].packets;
#endif
				mine[t].what = LATE
			:: else ->
				mine[t].what = LATE
			fi
		:: else
		fi
	}
}

/* WORK_RETIRE. The datapath's clock may still say that the connection lives. */
#define may_retire(x) (e[x].life == LIVE || e[x].life == RETIRED)
inline retire(t)
{
	atomic {
		mine[t].what != END || !e[table[t]].lock;
		if
		:: mine[t].what == END ->
			if
			:: e[table[t]].id == mine[t].id && may_retire(table[t]) ->
#ifndef BUG_DELETE_WITHOUT_RETIRE
				e[table[t]].life = RETIRED
#endif
			:: !stop && e[table[t]].life != RETIRED -> forget(mine[t])
			:: e[table[t]].id != mine[t].id || !may_retire(table[t]) -> forget(mine[t])
			fi
		:: else
		fi
	}
}

/* WORK_READ */
inline read_final(t)
{
	atomic {
		mine[t].what != END || !e[table[t]].lock;
		if
		:: mine[t].what == END ->
			if
#ifdef BUG_DELETE_WITHOUT_RETIRE
			:: e[table[t]].id == mine[t].id ->
#else
			:: e[table[t]].id == mine[t].id && e[table[t]].life == RETIRED ->
#endif
				mine[t].packets = e[table[t]].packets;
				mine[t].reported = e[table[t]].reported
			:: else ->
				forget(mine[t])
			fi
		:: else
		fi
	}
}

/* One whose end was told by an earlier sweep, which could not delete it, is told no more. */
inline write_ends(t)
{
	atomic {
		if
		:: mine[t].what == END && mine[t].id != ending[t].id ->
			record(mine[t].id, mine[t].reported, mine[t].packets, 1)
		:: else
		fi
	}
}

/* bpf_map_delete_elem, of element w. It can be handed out at once, and keeps its key and life until
 * then.
 */
inline unlink(t)
{
	assert(table[t] == w);
	assert(e[w].life != LIVE);
	table[t] = NONE;
	e[w].used = 0;
	e[w].id = 0;
	e[w].packets = 0;
	e[w].reported = 0;
	w = 0;
	if
	:: ending[t].id == mine[t].id -> forget(ending[t])
	:: else
	fi;
	forget(mine[t])
}

/* WORK_DELETE: bury under the lock, then delete. */
inline delete(t)
{
	atomic {
		mine[t].what != END || !e[table[t]].lock;
		if
		:: mine[t].what == END ->
			if
#ifdef BUG_DELETE_WITHOUT_RETIRE
			:: e[table[t]].id == mine[t].id ->
				w = table[t]
#else
#ifdef BUG_DELETE_ANY_LIFE
			:: table[t] != NONE ->
				w = table[t]
#else
			:: e[table[t]].id == mine[t].id && e[table[t]].life == RETIRED ->
				w = table[t];
				e[w].life = DEAD
#endif
#endif
			:: else ->
				mine[t].what = LATE_ENDED
			fi
		:: else
		fi
	}
#ifdef BUG_COUNTED_BEFORE_DELETED
	deletions = deletions + (w != NONE -> 1 : 0);
#endif
	atomic {
		if
		:: w != NONE ->
#ifdef FILLS
			uncounted = 1;
#endif
			unlink(t)
		:: else
		fi
	}
#ifdef FILLS
	atomic {
#ifndef BUG_COUNTED_BEFORE_DELETED
		deletions = deletions + uncounted;
#endif
		uncounted = 0
	}
#endif
}

/* sweeper.replaced, for the event at position i. */
inline replaced()
{
	t = ring[i].key;
	if
#ifndef BUG_NO_LATE
	:: mine[t].what == LATE && mine[t].id == ring[i].id ->
		record(ring[i].id, mine[t].packets, ring[i].packets, 1);
		forget(mine[t])
	:: mine[t].what == LATE_ENDED && mine[t].id == ring[i].id ->
		assert(ring[i].packets == mine[t].packets); /* nobody counts after grace */
		forget(mine[t]);
		forget(ending[t])
	:: ending[t].id == ring[i].id ->
		assert(ring[i].packets == ending[t].packets);
		forget(ending[t])
#endif
	:: else ->
		record(ring[i].id, ring[i].reported, ring[i].packets, 1)
	fi;
	t = 0
}

/* What is late and has no event found no room in the ring buffer and stayed. One whose end is told
 * is remembered until it is deleted or its event comes.
 */
inline settle(t)
{
	atomic {
		if
		:: mine[t].what == LATE_ENDED ->
#ifndef BUG_ENDING_FORGOTTEN
			ending[t].id = mine[t].id;
			ending[t].packets = mine[t].packets;
#endif
			forget(mine[t])
		:: else ->
			forget(mine[t])
		fi
	}
}

/* Makes room of the first `shown` events. */
inline release()
{
	atomic {
		i = 0;
		do
		:: i < waiting ->
			if
			:: i + shown < waiting ->
				ring[i].kind = ring[i + shown].kind;
				ring[i].key = ring[i + shown].key;
				ring[i].id = ring[i + shown].id;
				ring[i].packets = ring[i + shown].packets;
				ring[i].reported = ring[i + shown].reported
			:: else ->
				ring[i].kind = 0; ring[i].key = 0; ring[i].id = 0;
				ring[i].packets = 0; ring[i].reported = 0
			fi;
			i++
		:: else -> break
		od;
		waiting = waiting - shown;
		shown = 0;
		i = 0
	}
}

inline write_sum(t)
{
	atomic {
		if
		:: sum[t].packets > 0 ->
			record(sum[t].id, 0, sum[t].packets, 1);
			forget(sum[t])
		:: else
		fi
	}
}

/* events: what was there when it began; packets without a place are added up per tuple. */
inline events()
{
#ifndef BUG_LATE_WITHOUT_GRACE
	if
	:: mine[1].what != NOTHING || mine[TUPLES].what != NOTHING -> grace()
	:: else
	fi;
#endif
	shown = waiting;
	do
	:: atomic {
		i < shown ->
		if
		:: ring[i].kind == EVENT_REPLACED -> replaced()
		:: else ->
			t = ring[i].key;
			sum[t].id = (sum[t].id == 0 -> ring[i].id : sum[t].id);
			sum[t].packets = sum[t].packets + 1;
			t = 0
		fi;
		i++
	   }
	:: atomic { i == shown -> i = 0; break }
	od;
#ifdef BUG_RELEASE_BEFORE_FLUSH
	release();
#endif
	each_tuple(write_sum);
#ifndef BUG_RELEASE_BEFORE_FLUSH
	release();
#endif
	each_tuple(settle)
}

/* sweeper.sweep */
inline sweep()
{
	each_tuple(walk);
#ifdef BUG_ACK_BEFORE_FLUSH
	each_tuple(acknowledge);
	each_tuple(write_marks);
#else
	each_tuple(write_marks);
	each_tuple(acknowledge);
#endif
	each_tuple(retire);
#ifndef BUG_NO_GRACE
	if
	:: mine[1].what == END || mine[TUPLES].what == END -> grace()
	:: else
	fi;
#endif
	each_tuple(read_final);
#ifdef BUG_DELETE_BEFORE_FLUSH
	each_tuple(delete);
#endif
	each_tuple(write_ends);
	each_tuple(delete);
	events()
}

/* agent.stop, and what must hold when it has returned: the hook is off, the table and the ring
 * buffer are empty, and each packet is in exactly one record or counted as lost.
 */
inline stop_agent()
{
	detached = 1;
#ifndef BUG_STOP_WITHOUT_GRACE
	grace();
#endif
	stop = 1;
	sweep()
}

inline check()
{
	atomic {
		!in_path[0];
#if CPUS > 1
		!in_path[1];
#endif
		assert(waiting == 0);
		assert(table[1] == NONE && table[TUPLES] == NONE);
#ifdef FILLS
		assert(full_at != deletions); /* an empty table refuses nobody */
#endif
		t = 0;
		do
		:: w < FLOWS ->
			do
			:: told[w] >> i -> t = t + ((told[w] >> i) & 1); i++
			:: else -> i = 0; break
			od;
			w++
		:: else -> w = 0; break
		od;
		assert(t + lost == sent);
		t = 0
	}
}

proctype agent()
{
	byte done; /* sweeps */
#if DRAINS
	byte drains;
#endif
	byte t, w, i, shown;
	bit stop;
	candidate mine[TUPLES + 1];
	candidate ending[TUPLES + 1]; /* what remains of `late` for the next sweep */
	candidate sum[TUPLES + 1];
	candidate seen;

begin:
	{
		do
		:: done < SWEEPS -> sweep(); done++
#if DRAINS
		:: drains < DRAINS -> events(); drains++
#endif
		:: done == SWEEPS -> break
		od;
		stop_agent();
		check()
#ifdef KILL
	} unless {
		atomic {
			die;
			die = 0;
			killed = 1;
			w = 0; i = 0; shown = 0; stop = 0;
			each_tuple(forget_all);
			forget(seen)
		}
		goto begin
#endif
	}
}

#ifdef KILL
/* A program that is running comes to its end: no kill between bury, deletion and count. */
proctype kill()
{
	atomic {
		e[table[1]].life != DEAD && e[table[TUPLES]].life != DEAD && !uncounted -> die = 1
	}
}
#endif

init
{
	atomic {
		run cpu(0);
#if CPUS > 1
		run cpu(1);
#endif
#ifdef KILL
		run kill();
#endif
		run agent()
	}
}
