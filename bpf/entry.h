/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An entry of the table: counted in, replaced, opened. README sections 4, 6 and 7. */
#pragma once

#include "gather.h"
#include "hooks.h"

/* Whether this hook counts the leg, or would from now on. */
static __always_inline int counts(struct leg *l, struct packet *p)
{
	return l->owner == p->hook || !l->owner || (s64)(p->now - l->last) > (s64)takeover_ns;
}

/* Makes the hook the leg's owner, and lists the former one in its place; under the lock. */
static __always_inline void own(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];
	u16 *hooks = c->hooks[p->leg & 1];
	u16 former = l->owner;

	l->owner = p->hook;
	if (!former) {
		l->first = p->now;
		return;
	}
	for (int i = 0; i < OTHER_HOOKS; i++)
		if (hooks[i] == p->hook) {
			hooks[i] = former;
			return;
		}
	list_hook(hooks, former);
}

/* Copies what a connection holds beside its counters, lock and hooks; under the lock. */
static __always_inline void copy_leg(struct leg *to, struct leg *from)
{
	to->first = from->first;
	to->last = from->last;
	to->isn = from->isn;
	to->next = from->next;
	to->ack = from->ack;
	to->owner = from->owner;
	to->flags = from->flags;
	to->seen = from->seen;
}

static __always_inline void copy_rest(struct conn *to, struct conn *from)
{
	to->id = from->id;
	to->state = from->state;
	to->life = from->life;
	to->icmp_type = from->icmp_type;
	to->icmp_code = from->icmp_code;
	to->reported[0] = from->reported[0];
	to->reported[1] = from->reported[1];
	for (int i = 0; i < OTHER_HOOKS; i++) {
		to->hooks[0][i] = from->hooks[0][i];
		to->hooks[1][i] = from->hooks[1][i];
	}
	to->reported_at = from->reported_at;
}

static __always_inline void copy_out(struct conn *to, struct conn *from)
{
	for (int i = 0; i < 2; i++) {
		to->leg[i].packets = from->leg[i].packets;
		to->leg[i].bytes = from->leg[i].bytes;
		copy_leg(&to->leg[i], &from->leg[i]);
	}
	copy_rest(to, from);
}

/* Whether an event is to wake who reads them. CPUs that ask at once may both do so. */
static __always_inline int wakes(u8 kind)
{
	if (kind == EVENT_PACKET && full_alarm)
		return 1;
	return !woken && bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wake_at;
}

/* The flags with which an event goes to user space. Who is woken reads and resets both marks,
 * and may be done before this CPU goes on: they are set before.
 */
static __always_inline u64 wake(u8 kind)
{
	if (!wakes(kind))
		return BPF_RB_NO_WAKEUP;
	woken = 1;
	full_alarm = 0;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void address(struct event *e, struct packet *p, u8 kind)
{
	e->kind = kind;
	e->family = p->family;
	e->key = p->key6;
}

/* An entry that was found can have been deleted and given to another tuple meanwhile. Outside
 * the lock its `life` is read before its key: a live entry with this key stays so until this
 * CPU leaves. Family is a constant at each call, so that the verifier sees one kind of entry.
 */
static __always_inline int same4(struct key4 *a, struct key4 *b)
{
	u64 *x = (u64 *)a, *y = (u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline int same6(struct key6 *a, struct key6 *b)
{
	u64 *x = (u64 *)a, *y = (u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

static __always_inline int same_key(struct conn *c, struct packet *p, int family)
{
	if (family == 4)
		return same4((struct key4 *)c - 1, &p->key4);
	return same6((struct key6 *)c - 1, &p->key6);
}

/* A connection that is being replaced. */
struct ending {
	u8 life; /* before */
	u8 why;	 /* enum end_reason */
};

/* First step of replacing: marks a connection that has ended, or returns why it is not to be
 * replaced.
 */
static __always_inline int take_end(struct conn *c, struct scratch *s, int family,
				    struct ending *ending)
{
	struct packet *p = &s->packet;
	struct leg *l = &c->leg[p->leg & 1];
	int result = AGAIN;
	u8 end = 0;

	bpf_spin_lock(&c->lock);
	if (!same_key(c, p, family))
		result = AGAIN;
	else if (c->life == LIFE_BORN)
		result = AGAIN;
	else if (c->life == LIFE_DEAD || c->life == LIFE_ENDING)
		result = NO_PLACE;
	else if (c->life == LIFE_RETIRED || expired(c, p->now))
		end = end_of(c);
	else if (counts(l, p) && opens_another(c, p)) /* another hook may own the leg by now */
		end = END_DETECTED;
	if (end && refused(p)) {
		result = LOST_MID_STREAM;
	} else if (end) {
		result = ENDED;
		ending->life = c->life;
		c->life = LIFE_ENDING;
	}
	bpf_spin_unlock(&c->lock);
	ending->why = end;
	return result;
}

/* Second step: builds the new connection, and closes the slots of the old one. No slot opens
 * for a connection that is ending. A CPU that found it live a moment ago may still be about to
 * count its packet in it, and mostly has done so when this is done.
 */
static __always_inline void build_next(struct conn *c, struct __sk_buff *skb)
{
	int cached = has_slots(c);

	if (cached)
		close_slots(skb);
	build(skb);
	if (cached)
		fold_slots(skb);
}

/* Puts what a leg holds into `old`, and `fresh` in its place; under the lock. Who counts
 * outside of it looks at owner and flags afterwards: they change before the counters are taken.
 */
static __always_inline void change_leg(struct leg *l, struct leg *old, struct leg *fresh)
{
	u64 nothing = 0;

	copy_leg(old, l);
	FORGET(l->owner) = fresh->owner;
	FORGET(l->flags) = fresh->flags;
	/* A full barrier. The compiler may not see the 0: it would make an `or` of it, which
	 * kernels before 5.12 do not know.
	 */
	asm volatile("" : "+r"(nothing));
	__sync_fetch_and_add(&l->packets, nothing);
	old->packets = FORGET(l->packets);
	old->bytes = FORGET(l->bytes);
	__sync_fetch_and_add(&l->packets, -old->packets);
	__sync_fetch_and_add(&l->bytes, -old->bytes);
	copy_leg(l, fresh);
	if (!fresh->owner && l->packets)
		own_late(l, old->owner);
}

/* Last step: the old connection goes into its record, the new one into its place. What other
 * CPUs count from now on counts in the new one. It comes to life last: who looks without the
 * lock sees all of it then.
 */
static __always_inline void give_place(struct conn *c, struct scratch *s, struct event *e)
{
	struct conn *fresh = (struct conn *)s->fresh;

	fresh->life = LIFE_ENDING;
	bpf_spin_lock(&c->lock);
	copy_rest(&e->conn, c);
	for (int i = 0; i < 2; i++)
		change_leg(&c->leg[i], &e->conn.leg[i], &fresh->leg[i]);
	copy_rest(c, fresh);
	count_packet(&c->leg[s->packet.leg & 1], &s->packet);
	barrier();
	c->life = LIFE_LIVE;
	bpf_spin_unlock(&c->lock);
}

/* There is no room for the record: the connection stays. */
static __always_inline void stay(struct conn *c, u8 life)
{
	bpf_spin_lock(&c->lock);
	c->life = life;
	bpf_spin_unlock(&c->lock);
}

/* Ends the connection in an entry and starts the packet's in its place, unless another CPU
 * has done so meanwhile.
 */
static __always_inline int replace(struct conn *c, struct __sk_buff *skb, struct scratch *s,
				   int family)
{
	struct ending end = {};
	struct event *e;
	int result = take_end(c, s, family, &end);

	if (result != ENDED)
		return result;
	build_next(c, skb);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		stay(c, end.life);
		return LOST_RING_FULL;
	}
	give_place(c, s, e);
	e->conn.life = end.life;
	e->end = end.why;
	address(e, &s->packet, EVENT_REPLACED);
	bpf_ringbuf_submit(e, wake(EVENT_REPLACED));
	return ACCOUNTED;
}

/* Counts a packet in the entry of its tuple, unless its connection has ended. */
static __always_inline int update(struct conn *c, struct packet *p, int family)
{
	struct leg *l = &c->leg[p->leg & 1];
	int result = ACCOUNTED;

	bpf_spin_lock(&c->lock);
	if (!same_key(c, p, family)) {
		result = AGAIN;
	} else if (c->life != LIFE_LIVE || expired(c, p->now)) {
		result = ENDED;
	} else if (!counts(l, p)) {
		list_hook(c->hooks[p->leg & 1], p->hook);
		result = OBSERVED;
	} else if (opens_another(c, p)) {
		result = ENDED;
	} else {
		if (l->owner != p->hook)
			own(c, p);
		if (p->has_states)
			tcp_next(c, p);
		else if (!p->cites && c->leg[!p->leg].owner)
			c->state = STATE_REPLIED;
		l->flags |= p->flags;
		count_packet(l, p); /* not later: another connection could take the entry */
	}
	bpf_spin_unlock(&c->lock);
	return result;
}

/* Builds the packet's connection with the packet in it. */
static __always_inline struct conn *first_packet(struct __sk_buff *skb, struct scratch *s)
{
	struct conn *c = (struct conn *)s->fresh;
	struct leg *l = &c->leg[s->packet.leg & 1];

	build(skb);
	l->packets = s->packet.packets;
	l->bytes = s->packet.bytes;
	return c;
}

/* Hands a packet to user space that found no place in the table. */
PART no_place(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct conn *c;
	struct event *e;

	if (!s)
		return LOST_NO_HOOK;
	c = first_packet(skb, s);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return LOST_TABLE_FULL;
	copy_out(&e->conn, c);
	e->end = END_NO_ROOM;
	address(e, &s->packet, EVENT_PACKET);
	bpf_ringbuf_submit(e, wake(EVENT_PACKET));
	return ACCOUNTED;
}

#define E2BIG  7
#define EEXIST 17

static __always_inline int no_room(void)
{
	return overflow_to_ring ? NO_PLACE : LOST_TABLE_FULL;
}

/* What an insertion's error means for the packet. Before 6.4 the map's function returns an int,
 * whose upper half is not what a long says. `deleted` was read before the insertion: what is
 * deleted meanwhile, and might have made room too late for it, is not counted in it.
 */
static __always_inline int after_insert(int err, volatile u64 *full, u64 deleted)
{
	if (err == -EEXIST)
		return AGAIN;
	if (err != -E2BIG) {
		__sync_fetch_and_add(&refusals, 1);
		return NO_PLACE;
	}
	*full = deleted;
	return no_room();
}

/* An entry comes to life once it is written: the kernel writes it without its lock, while
 * another CPU may still hold it for the connection that had it before.
 */
static __always_inline void publish(struct conn *c)
{
	bpf_spin_lock(&c->lock);
	if (c->life == LIFE_BORN)
		c->life = LIFE_LIVE;
	bpf_spin_unlock(&c->lock);
}

PART open4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	u64 deleted = deletions;
	struct conn4 *c;
	struct key4 *k;
	int err;

	if (!s)
		return LOST_NO_HOOK;
	if (refused(&s->packet))
		return LOST_MID_STREAM;
	if (full4 == deleted)
		return no_room();
	first_packet(skb, s)->life = LIFE_BORN;
	k = (struct key4 *)s->fresh - 1;
	*k = s->packet.key4;
	err = bpf_map_update_elem(&conns4, &s->packet.key4, k, BPF_NOEXIST);
	if (err)
		return after_insert(err, &full4, deleted);
	c = bpf_map_lookup_elem(&conns4, &s->packet.key4);
	if (c)
		publish((struct conn *)(&c->key + 1));
	return ACCOUNTED;
}

PART open6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	u64 deleted = deletions;
	struct conn6 *c;
	struct key6 *k;
	int err;

	if (!s)
		return LOST_NO_HOOK;
	if (refused(&s->packet))
		return LOST_MID_STREAM;
	if (full6 == deleted)
		return no_room();
	first_packet(skb, s)->life = LIFE_BORN;
	k = (struct key6 *)s->fresh - 1;
	*k = s->packet.key6;
	err = bpf_map_update_elem(&conns6, &s->packet.key6, k, BPF_NOEXIST);
	if (err)
		return after_insert(err, &full6, deleted);
	c = bpf_map_lookup_elem(&conns6, &s->packet.key6);
	if (c)
		publish((struct conn *)(&c->key + 1));
	return ACCOUNTED;
}
