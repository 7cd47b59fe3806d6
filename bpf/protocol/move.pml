/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The change of tables (README section 11 of the datapath's text) between packet path, move program (../move.bpf.c,
 * ../move.h) and agent (../migrate.go, ../move.go), for spin. README.md says what is checked, and how.
 *
 * There are two tables, and one tuple. One transition is one access to what others can see; packets come in on other
 * CPUs while the move program runs. One counter stands for both legs. Whether an entry in the new table is another
 * connection, and whether there is room, is not decided by a clock or a size: both answers are tried.
 *
 * Sizes, set with -D:
 */
#ifndef CPUS
#define CPUS 2
#endif
#ifndef PACKETS
#define PACKETS 2 /* that each CPU may send */
#endif
#ifndef RESIZES
#define RESIZES 1
#endif
/* -DKILL adds one kill of the agent at any moment, and an agent that takes over. */

/* enum conn_life; NONE: the table has no entry */
#define NONE 0
#define BORN 1
#define LIVE 2

/* enum move_result; STAYS is also MOVE_FULL */
#define GONE  1
#define DONE  2
#define STAYS 3
#define BUSY  4

typedef entry {
	unsigned life : 2;
	bit lock;
	byte packets;
	byte id
}

/* What the kernel holds, and the pins. */
entry e[2];
bit jump;  /* the table that the packet path in place counts in */
bit named; /* the table whose pin has the table's name */
bit aside; /* the other one is pinned with -old behind it */
byte ids;  /* drawn */
bit in_path[CPUS];
bit awaited[CPUS];

/* What is known outside: a receiver counts each packet of a flow once. */
#define IDS (CPUS * PACKETS)
byte told[IDS];
byte handed; /* packets that were reported by themselves */
byte sent;
byte idle;   /* CPUs that have sent all */
bit running; /* the move program is: a kill waits */
bit die;     /* the kill that is due */

#define locked(t, what)                                                                            \
	atomic { e[t].lock == 0 -> e[t].lock = 1 };                                                \
	what;                                                                                      \
	e[t].lock = 0

proctype cpu(byte me)
{
	byte n;
	bit t;

	do
	:: n < PACKETS ->
		n++;
		atomic { in_path[me] = 1; sent++; t = jump };
		if
		:: e[t].life == LIVE -> e[t].packets++
		:: e[t].life == BORN -> handed++
		:: atomic { e[t].life == NONE ->
			e[t].life = BORN; e[t].id = ids; e[t].packets = 1; ids++ };
			locked(t, e[t].life = LIVE)
		fi;
		d_step { in_path[me] = 0; awaited[me] = 0; t = 0 }
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

/* A record with all that a connection has counted. Told again, it has no packets that are new, or more. */
inline tell(flow, n)
{
	d_step {
		if
		:: n > told[flow] -> told[flow] = n
		:: else
		fi
	}
}

/* merge, under the lock */
inline merge(t)
{
#ifdef BUG_MERGE_STORES
	seen = e[t].packets;
	e[t].packets = seen + packets;
#else
	e[t].packets = e[t].packets + packets;
#endif
#ifndef BUG_YOUNGER_NAME
	e[t].id = id;
#endif
	result = DONE
}

inline join(t)
{
	locked(t,
		if
		:: e[t].life == BORN -> result = BUSY
		:: e[t].life == LIVE -> merge(t)
		:: e[t].life == LIVE -> result = STAYS /* it is another connection */
		fi)
}

#define forget_in(t) d_step { e[t].life = NONE; e[t].packets = 0; e[t].id = 0 }

/* move_item, with what user space has read */
inline move(from, to)
{
	running = 1;
	if
#ifndef BUG_MOVED_WITHOUT_LOOK
	:: e[from].life == NONE -> result = GONE
	:: e[from].life != NONE ->
#else
	:: true ->
#endif
		if
		:: atomic { e[to].life == NONE ->
			e[to].life = LIVE; e[to].packets = packets; e[to].id = id; result = DONE }
		:: e[to].life == NONE -> result = STAYS /* there is no room */
		:: e[to].life != NONE -> join(to)
		fi
	fi;
	if
	:: result == DONE ->
		assert(e[to].id == id); /* a connection that goes on keeps its name */
#ifndef BUG_DELETED_LATER
		forget_in(from)
#endif
	:: else
	fi;
	running = 0
}

/* part: what does not go on is reported, and then deleted. */
inline report(from)
{
#ifdef BUG_DELETED_BEFORE_FLUSH
	forget_in(from);
	tell(id, packets)
#else
	tell(id, packets);
	forget_in(from)
#endif
}

/* exhaust: run comes again as long as any item is busy, and then for all of them. */
inline exhaust(from, to)
{
	if
	:: e[from].life != NONE ->
		packets = e[from].packets;
		id = e[from].id;
		do
		:: move(from, to);
			if
			:: result == BUSY
			:: result == DONE && !again -> again = 1 /* another item is */
			:: result != BUSY -> break
			fi
		od;
		if
		:: result == STAYS -> report(from)
		:: else
		fi;
#ifdef BUG_DELETED_LATER
		forget_in(from);
#endif
		d_step { packets = 0; id = 0; result = 0; seen = 0; again = 0 }
	:: else
	fi
}

/* complete: the packet path in place is ours. */
inline complete()
{
	if
	:: aside ->
#ifndef BUG_NO_GRACE
		grace();
#endif
		exhaust(1 - named, named);
		aside = 0
	:: else
	fi
}

/* swap. The other table is new. */
inline swap()
{
#ifdef BUG_IN_USE_BEFORE_PINNED
	jump = 1 - named;
#endif
	d_step { aside = 1; named = 1 - named };
	jump = named
}

/* The hooks are off, and the last sweep ends all. */
inline stop_agent()
{
	idle == CPUS;
	grace();
	if
	:: e[named].life != NONE -> tell(e[named].id, e[named].packets); forget_in(named)
	:: else
	fi
}

inline check()
{
	d_step {
		assert(e[0].life == NONE && e[1].life == NONE);
		seen = handed;
		i = 0;
		do
		:: i < IDS -> seen = seen + told[i]; i++
		:: else -> break
		od;
		assert(seen == sent)
	}
}

proctype agent()
{
	byte n, i, packets, id, seen, result;
	bit again;

begin:
	{
		jump = named; /* Load, whichever packet path was there */
		complete();
		do
		:: n < RESIZES -> n++; swap(); complete()
		:: else -> break
		od;
		stop_agent();
		check()
#ifdef KILL
	} unless {
		atomic {
			die;
			die = 0;
			i = 0; packets = 0; id = 0; seen = 0; result = 0; again = 0
		}
		goto begin
#endif
	}
}

#ifdef KILL
/* A program that is running comes to its end. */
proctype kill() { atomic { !running -> die = 1 } }
#endif

init
{
	byte i;

	atomic {
		do
		:: i < CPUS -> run cpu(i); i++
		:: else -> break
		od;
#ifdef KILL
		run kill();
#endif
		run agent()
	}
}
