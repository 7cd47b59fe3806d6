/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The fast path's protocol (../cache.h, ../gather.h) between packet path, collect program (../collect.h) and sweep
 * (../cache.go, ../../agent/sweep.go), for spin. README.md says what is checked, and how.
 *
 * Each CPU has one slot, which all tuples want. One transition is one access to what others can see. Whether a
 * slot must ask the table, whether it is cold, whether a packet ends its connection, and whether one has expired
 * is not decided by a clock: both answers are tried.
 *
 * Sizes, set with -D:
 */
#ifndef CPUS
#define CPUS 2
#endif
#ifndef PACKETS
#define PACKETS 2 /* that the first CPU may send */
#endif
#ifndef FEWER
#define FEWER PACKETS /* that the second may send */
#endif
#define packets_of(cpu) (cpu == 0 -> PACKETS : FEWER)
#ifndef TUPLES
#define TUPLES 1
#endif
#ifndef SWEEPS
#define SWEEPS 1 /* before the one that stops the agent */
#endif

/* enum slot_life */
#define FREE   0
#define OPEN   1
#define CLOSED 2

/* enum conn_life; NONE: the table has no entry */
#define NONE	0
#define LIVE	1
#define RETIRED 2
#define ENDING	3

/* enum slot_step */
#define STAYS	  0
#define CLOSES	  1
#define GOES_FREE 2

typedef slot {
	unsigned tuple : 2; /* its name */
	unsigned life : 2;
	byte packets;
	byte taken
}

typedef entry {
	unsigned life : 2;
	bit lock;
	byte packets;
	byte birth /* a ghost: how many connections the tuple has had */
}

slot s[CPUS];
entry e[TUPLES];
bit in_path[CPUS];
bit awaited[CPUS];
byte sent;
byte recorded; /* packets in last records */
byte handed;   /* packets that found no place, and went to user space by themselves */
byte sure[TUPLES]; /* a ghost: packets of the connection whose CPUs have left the packet path */
byte idle; /* CPUs that have sent all */

#define locked(t, what)                                                                            \
	atomic { e[t].lock == 0 -> e[t].lock = 1 };                                                \
	what;                                                                                      \
	e[t].lock = 0

/* fold, under the lock: what the slot has counted is one access, the rest is guarded. */
inline fold(t, cpu, step)
{
	seen = s[cpu].packets;
	d_step {
		e[t].packets = e[t].packets + seen - s[cpu].taken;
		s[cpu].taken = seen;
		if
		:: step == CLOSES -> s[cpu].life = CLOSED
		:: step == GOES_FREE && s[cpu].life == CLOSED -> s[cpu].life = FREE
		:: else
		fi
	}
}

#define is_of(cpu, t) (s[cpu].life != FREE && s[cpu].tuple == t)

/* visit4: the slot is asked again under the lock. */
inline visit(t, cpu, step)
{
#ifdef BUG_FOLD_WITHOUT_LOCK
	fold(t, cpu, step)
#else
	locked(t,
		if
#ifdef BUG_NOT_ASKED_AGAIN
		:: true -> fold(t, cpu, step)
#else
		:: is_of(cpu, t) -> fold(t, cpu, step)
		:: else
#endif
		fi)
#endif
}

inline gather(t, step)
{
	i = 0;
	do
	:: i < CPUS ->
		if
		:: is_of(i, t) -> visit(t, i, step)
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* take_end, build_next and give_place. */
inline replace(t)
{
	may = false;
	locked(t,
		if
		:: e[t].life == LIVE || e[t].life == RETIRED ->
			d_step { may = true; e[t].life = ENDING; owed = sure[t] }
		:: else
		fi);
	if
	:: may ->
#ifdef BUG_COPY_BEFORE_SLOTS
		copy = e[t].packets;
		gather(t, CLOSES);
#else
#ifndef BUG_REPLACE_LEAVES_SLOTS
		gather(t, CLOSES);
#endif
		copy = e[t].packets;
#endif
		assert(copy >= owed); /* nothing that was counted before is missing */
		recorded = recorded + copy;
		locked(t, d_step {
			e[t].packets = e[t].packets - copy;
			e[t].life = LIVE;
			e[t].birth++;
			sure[t] = 0;
			birth = e[t].birth
		});
		e[t].packets++;
		copy = 0; owed = 0
	:: else -> handed++
	fi
}

/* open_slot, with a slot that is free */
inline claim(t)
{
	d_step {
		s[me].tuple = t;
		s[me].packets = 0;
#ifndef BUG_TAKEN_IS_KEPT
		s[me].taken = 0
#endif
	};
#ifdef BUG_OPENED_WITHOUT_LOOK
	s[me].life = OPEN
#else
	locked(t,
		if
		:: e[t].life == LIVE -> s[me].life = OPEN
		:: else
		fi)
#endif
}

/* try4 and update, or quick4 */
inline by_table(t)
{
	if
	:: atomic { e[t].life == NONE ->
		e[t].life = LIVE; e[t].packets = 1; e[t].birth++; sure[t] = 0; birth = e[t].birth }
	:: e[t].life == LIVE ->
		if
		:: e[t].packets++;
			if
			:: s[me].life == FREE -> claim(t)
			:: else
			fi
		:: true -> replace(t) /* it opens another connection */
		fi
	:: e[t].life == RETIRED -> replace(t)
	:: e[t].life == ENDING -> handed++
	fi
}

proctype cpu(byte me)
{
	byte n, t, i, seen, copy, owed, birth;
	bool may;

	do
	:: n < packets_of(me) ->
		n++;
		select(t : 0 .. TUPLES - 1);
		atomic { in_path[me] = 1; sent++; birth = e[t].birth };
		if
		:: is_of(me, t) && s[me].life == OPEN -> s[me].packets++ /* hit */
		:: true -> by_table(t) /* the slot is another's, closed, or must ask */
		fi;
		atomic {
			if
			:: birth == e[t].birth && e[t].life != ENDING -> sure[t]++
			:: else
			fi;
			in_path[me] = 0; awaited[me] = 0; t = 0; birth = 0
		}
	:: else -> break
	od;
	idle++
}

inline grace()
{
	d_step {
		i = 0;
		do
		:: i < CPUS -> awaited[i] = in_path[i]; i++
		:: else -> break
		od;
		i = 0
	};
	do
	:: i < CPUS -> !awaited[i]; i++
	:: else -> break
	od;
	i = 0
}

/* newFolding: slots that have news are folded; cold ones are closed as well. */
inline fold_all()
{
	c = 0;
	do
	:: c < CPUS ->
		tuple = s[c].tuple;
		if
		:: s[c].life == FREE
		:: s[c].life != FREE -> visit(tuple, c, STAYS)
		:: s[c].life == OPEN -> visit(tuple, c, CLOSES)
		fi;
		c++
	:: else -> break
	od;
	c = 0
}

/* Settle: slots that were closed before the wait are given back after it. */
inline settle()
{
	c = 0;
	do
	:: c < CPUS -> listed[c] = s[c].life == CLOSED; c++
	:: else -> break
	od;
#ifndef BUG_NO_GRACE
	grace();
#endif
#ifdef BUG_LISTED_AFTER_GRACE
	c = 0;
	do
	:: c < CPUS -> listed[c] = s[c].life == CLOSED; c++
	:: else -> break
	od;
#endif
	c = 0;
	do
	:: c < CPUS && listed[c] ->
		tuple = s[c].tuple;
#ifdef BUG_FREED_WITHOUT_FOLD
		s[c].life = FREE;
#else
		visit(tuple, c, GOES_FREE);
#endif
		listed[c] = 0;
		c++
	:: c < CPUS && !listed[c] -> c++
	:: c >= CPUS -> break
	od;
	c = 0
}

/* WORK_RETIRE and WORK_FORCE */
inline retire(t)
{
	gather(t, STAYS);
	locked(t,
		if
		:: e[t].life == LIVE -> e[t].life = RETIRED
		:: else
		fi);
#ifndef BUG_RETIRE_LEAVES_SLOTS
	if
	:: e[t].life == RETIRED -> gather(t, CLOSES)
	:: else
	fi
#endif
}

/* WORK_READ, the record and WORK_DELETE */
inline bury(t)
{
	copy = 0;
	may = false;
	locked(t,
		if
		:: e[t].life == RETIRED -> may = true; copy = e[t].packets
		:: else
		fi);
	if
	:: may ->
		locked(t,
			if
			:: e[t].life == RETIRED ->
				d_step {
					assert(e[t].packets == copy); /* nobody counts in it any more */
					recorded = recorded + copy;
					e[t].life = NONE;
					e[t].packets = 0
				};
				c = 0;
				do
				:: c < CPUS -> assert(!is_of(c, t)); c++ /* its slots were given back before */
				:: else -> break
				od;
				c = 0
			:: else
			fi)
	:: else
	fi;
	copy = 0
}

inline sweep(stop)
{
	fold_all();
	t = 0;
	do
	:: t < TUPLES -> retire(t); t++
	:: t < TUPLES && !stop -> t++ /* it has not expired */
	:: t >= TUPLES -> break
	od;
#ifdef BUG_READ_BEFORE_FOLD
	grace();
#else
	settle();
#endif
	t = 0;
	do
	:: t < TUPLES -> bury(t); t++
	:: else -> break
	od;
	t = 0
}

active proctype agent()
{
	byte n, t, i, c, seen, copy, tuple;
	bit listed[CPUS];
	bool may;

	do
	:: n < SWEEPS -> sweep(false); n++
	:: else -> break
	od;
	idle == CPUS; /* the hooks are off */
	grace();
	sweep(true);
	settle(); /* what a packet that replaced has closed */
	assert(recorded + handed == sent);
	do
	:: c < CPUS -> assert(s[c].life == FREE); c++
	:: else -> break
	od
}

init
{
	byte i;

	atomic {
		do
		:: i < CPUS -> run cpu(i); i++
		:: else -> break
		od
	}
}
