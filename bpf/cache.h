/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The fast path's slots: README section 10. Each CPU has slots of its own, in which it counts
 * packets that change nothing else, without an atomic instruction and without the table.
 */
#pragma once

#include "state.h"

/* Who changes a slot's life: its CPU opens it, anybody closes it, the sweep frees it. */
enum slot_life {
	SLOT_FREE,
	SLOT_OPEN,
	SLOT_CLOSED, /* its CPU counts no more in it, once it has left the packet path */
};

/* What a CPU has counted of a leg. Written by its CPU alone, but for `life` and what was taken,
 * which are written under the lock of the connection's entry.
 */
struct slot {
	u64 name; /* what the leg is called, beside the addresses: slot_name() */
	u64 bytes;
	u64 until;	 /* ns; later packets ask the table */
	u64 taken_bytes; /* what the entry has of them */
	u32 packets;
	u32 taken_packets;
	u32 last; /* lower half of the ns; less than 2^32 before `until` */
	u32 next; /* as in struct leg */
	u32 ack;
	u16 zone;
	u8 flags; /* TCP flags that the leg has shown */
	u8 life;  /* enum slot_life */
};

struct slot4 {
	u64 addrs; /* source in the lower half */
	struct slot slot;
};

struct slot6 {
	u64 addrs[2][2]; /* source, destination */
	struct slot slot;
};

/* `slots` for each possible CPU, one CPU's after the other's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct slot4);
	__uint(max_entries, 1); /* set by the loader */
} cache4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct slot6);
	__uint(max_entries, 1); /* set by the loader */
} cache6 SEC(".maps");

/* Fixed when the program is loaded. */
volatile const u32 slots = 0; /* of each CPU and family, a power of two; 0: no fast path */
volatile const u32 slot_shift = 64; /* 64 - log2(slots) */

/* May change while traffic flows. */
volatile u64 slot_ns = 0;    /* how long a slot counts before it asks the table */
volatile u32 slot_after = 0; /* packets of a leg before it is given a slot */

static __always_inline u64 slot_name(u16 source, u16 destination, u16 hook, u8 proto)
{
	return source | (u64)destination << 16 | (u64)hook << 32 | (u64)proto << 48;
}

#define SLOT_WAYS 2 /* places for a leg: this one, and its neighbour in the same pair */

/* Where a leg's slot is, on every CPU. */
static __always_inline u32 slot_index(u64 addrs, u64 name)
{
	return mix(mix(addrs, addrs >> 32), name) >> slot_shift;
}

/* The same for IPv6. */
static __always_inline u32 slot_index6(u64 *source, u64 *destination, u64 name)
{
	return slot_index(mix(source[0], source[1]) + mix(~destination[0], destination[1]),
			  name);
}

static __always_inline u32 own_slots(void)
{
	return bpf_get_smp_processor_id() * slots;
}

static __always_inline int same_addr(u64 *a, u64 *b)
{
	return a[0] == b[0] && a[1] == b[1];
}

/* Counts a packet in its leg's open slot, or returns 0. */
static __always_inline int hit(struct slot *s, struct packet *p)
{
	if ((s64)(p->now - s->until) > 0 || p->flags & ~s->flags)
		return 0;
	if (p->has_numbers) {
		u32 next = p->seq + p->payload;

		if ((s32)(next - s->next) > 0)
			s->next = next;
		if (p->flags & FLAG_ACK && (s32)(p->ack - s->ack) > 0)
			s->ack = p->ack;
	}
	s->packets += p->packets;
	s->bytes += p->bytes;
	s->last = p->now;
	return 1;
}

static __always_inline void take_numbers(struct leg *l, struct slot *s)
{
	if (!(l->seen & SEEN_FIN) && (s32)(s->next - l->next) > 0)
		l->next = s->next;
	if ((s32)(s->ack - l->ack) > 0)
		l->ack = s->ack;
}

static __always_inline u64 last_of(struct slot *s)
{
	u64 until = FORGET(s->until);

	return until - (u32)(until - FORGET(s->last));
}

/* What becomes of a slot that is folded. */
enum slot_step {
	SLOT_STAYS,
	SLOT_CLOSES,
	SLOT_GOES_FREE, /* it was closed, and its CPU has left the packet path since */
};

/* Whether the slot's numbers are the connection's latest. Those of a slot that was not used
 * lately may be so old that they seem to be ahead; after a slot was closed another connection
 * can have taken the tuple.
 */
static __always_inline int has_latest(u64 leg_last, struct slot *s, u64 last, u32 step)
{
	return step != SLOT_GOES_FREE && s->name >> 48 == IPPROTO_TCP &&
	       (s64)(last - leg_last) >= 0;
}

/* Takes into the entry what a slot has counted since the last time, and steps on; under the
 * lock.
 */
static __always_inline void fold(struct leg *l, struct slot *s, u32 step)
{
	u32 packets = FORGET(s->packets);
	u64 bytes = FORGET(s->bytes), last = last_of(s);

	if (packets != s->taken_packets || bytes != s->taken_bytes) {
		__sync_fetch_and_add(&l->packets, (u32)(packets - s->taken_packets));
		__sync_fetch_and_add(&l->bytes, bytes - s->taken_bytes);
		s->taken_packets = packets;
		s->taken_bytes = bytes;
		if (has_latest(l->last, s, last, step))
			take_numbers(l, s);
		if ((s64)(last - l->last) > 0)
			l->last = last;
	}
	if (step == SLOT_CLOSES)
		s->life = SLOT_CLOSED;
	else if (step == SLOT_GOES_FREE && s->life == SLOT_CLOSED)
		s->life = SLOT_FREE;
}

/* Whether a leg may be counted in slots, as far as it is known outside the lock. */
static __always_inline int wants_slot(struct leg *l, struct packet *p)
{
	if (l->packets < slot_after || !slot_ns)
		return 0;
	return !p->has_states || (l->seen & (SEEN_NEXT | SEEN_ACK)) == (SEEN_NEXT | SEEN_ACK);
}

/* Under the lock. A slot counts only where no packet can change the state. */
static __always_inline int may_open(struct conn *c, struct leg *l, struct packet *p)
{
	return c->life == LIFE_LIVE && l->owner == p->hook &&
	       (!p->has_states || (c->state == STATE_ESTABLISHED && !(l->seen & SEEN_FIN)));
}

/* When the table has counted a packet of a leg that has an open slot here; `leg_last` is from
 * before.
 */
static __always_inline void catch_up(struct leg *l, u64 leg_last, struct slot *s)
{
	if (has_latest(leg_last, s, last_of(s), SLOT_STAYS))
		take_numbers(l, s);
}

/* Lets an open slot go on, now that the table was asked. */
static __always_inline void renew(struct leg *l, struct slot *s, struct packet *p)
{
	s->next = l->next;
	s->ack = l->ack;
	s->flags = l->flags;
	s->last = p->now;
	s->until = p->now + slot_ns;
}

/* Opens a free slot. Its name is there already. */
static __always_inline void open_slot(struct conn *c, struct leg *l, struct slot *s,
				      struct packet *p)
{
	s->packets = 0;
	s->bytes = 0;
	s->taken_packets = 0;
	s->taken_bytes = 0;
	s->zone = p->zone;
	bpf_spin_lock(&c->lock);
	if (may_open(c, l, p)) {
		renew(l, s, p);
		l->seen |= SEEN_CACHED;
		s->life = SLOT_OPEN;
	}
	bpf_spin_unlock(&c->lock);
}
