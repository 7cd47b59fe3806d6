/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its connection: README sections 4 to 7. */
#pragma once

#include "sample.h"

/* What became of a packet. Other values are enum lost. */
#define ACCOUNTED (-1)
#define OBSERVED  (-2)
#define AGAIN	  (-3) /* the table changed under us; look it up again */
#define NO_PLACE  (-4) /* hand it to user space through the ring buffer */
#define ENDED	  (-5) /* its connection has; replace it */
#define LONG_WAY  (-6) /* a short way does not know */

#define CONTROL_FLAGS (FLAG_SYN | FLAG_FIN | FLAG_RST)

static __always_inline int idle_too_long(struct conn *c, u64 last, u64 now)
{
	return (s64)(now - last) > (s64)lifetime_ns[c->state & (STATE_SLOTS - 1)];
}

static __always_inline int expired(struct conn *c, u64 now)
{
	return idle_too_long(c, c->leg[0].last, now) && idle_too_long(c, c->leg[1].last, now);
}

static __always_inline u8 end_of(struct conn *c)
{
	return c->state == STATE_CLOSED || c->state == STATE_RESET ? END_DETECTED : END_IDLE;
}

/* Says what the packet means to its connection. */
static __always_inline void interpret(struct packet *p)
{
	u8 of = p->cites ? p->cites : p->proto;

	p->icmp = of == IPPROTO_ICMP || of == IPPROTO_ICMPV6;
	p->has_states = p->proto == IPPROTO_TCP || p->proto == IPPROTO_SCTP;
	p->has_numbers = p->proto == IPPROTO_TCP && !(p->flags & FLAG_RST) &&
			 p->fragment != FRAGMENT_LATER;
}

static __always_inline u32 after(struct packet *p)
{
	return p->seq + p->payload + !!(p->flags & FLAG_SYN) + !!(p->flags & FLAG_FIN);
}

/* Moves the numbers of a leg that has them. */
static __always_inline void move_numbers(struct leg *l, struct packet *p)
{
	u32 next = after(p);

	if (!(l->seen & SEEN_FIN) && (s32)(next - l->next) > 0)
		l->next = next;
	if (p->flags & FLAG_ACK && (s32)(p->ack - l->ack) > 0)
		l->ack = p->ack;
}

/* The same for a leg that may not have them yet; under the lock. */
static __always_inline void start_numbers(struct leg *l, struct packet *p)
{
	u8 known = (p->flags & FLAG_ACK) << 1; /* SEEN_ACK */

	if (p->has_numbers) {
		if (!(l->seen & SEEN_NEXT))
			l->next = after(p);
		if (!(l->seen & SEEN_ACK))
			l->ack = p->ack;
		move_numbers(l, p);
		known |= SEEN_NEXT;
	}
	l->seen |= known;
}

/* Counts a packet; outside the lock. Every CPU may do this at once. */
static __always_inline int count_packet(struct leg *l, struct packet *p)
{
	__sync_fetch_and_add(&l->packets, p->packets);
	__sync_fetch_and_add(&l->bytes, p->bytes);
	if ((s64)(p->now - l->last) > 0)
		l->last = p->now;
	return ACCOUNTED;
}

static __always_inline u8 first_state(struct packet *p)
{
	if (!p->has_states)
		return STATE_UNREPLIED;
	if (p->flags & FLAG_RST)
		return STATE_RESET;
	if (p->flags & FLAG_SYN)
		return p->flags & FLAG_ACK ? STATE_SYN_RECEIVED : STATE_SYN_SENT;
	return p->flags & FLAG_FIN ? STATE_CLOSING : STATE_ESTABLISHED;
}

/* Marks the initiator, as far as the first packet tells. */
static __always_inline void first_initiator(struct conn *c, struct packet *p)
{
	u8 reply = p->has_states ? p->flags & FLAG_ACK : p->icmp_reply;

	if (p->has_states && (p->flags & FLAG_RST || !(p->flags & FLAG_SYN)))
		return;
	if (reply)
		c->leg[!p->leg].seen |= SEEN_INITIATOR;
	else
		c->leg[p->leg & 1].seen |= SEEN_INITIATOR;
	if (p->has_states && reply)
		c->leg[p->leg & 1].seen |= SEEN_SYN_ACK_FIRST;
}

static __always_inline void remember_syn(struct leg *l, struct packet *p)
{
	l->isn = p->seq;
	l->seen |= SEEN_SYN;
}

static __always_inline u64 new_flow_id(void)
{
	u32 zero = 0;
	u64 *n = bpf_map_lookup_elem(&flow_ids, &zero);

	if (!n)
		return 0;
	return (*n)++ * possible_cpus + bpf_get_smp_processor_id() + 1;
}

/* Builds the connection of which the packet at hand is the first, its counters apart. */
PART build(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct packet *p;
	struct conn *c;
	struct leg *l;

	if (!s)
		return -1;
	p = &s->packet;
	c = (struct conn *)s->fresh;
	l = &c->leg[p->leg & 1];
	__builtin_memset(c, 0, sizeof(*c));
	c->leg[0].last = p->now;
	c->leg[1].last = p->now;
	c->reported_at = p->now >> TICK_SHIFT;
	c->state = first_state(p);
	first_initiator(c, p);
	l->owner = p->hook;
	l->first = p->now;
	l->flags = p->flags;
	c->id = new_flow_id();
	if (!p->has_states)
		return 0;
	if (p->flags & FLAG_RST)
		return 0;
	start_numbers(l, p);
	if (p->flags & FLAG_SYN)
		remember_syn(l, p);
	l->seen |= (p->flags & FLAG_FIN) << 1; /* SEEN_FIN */
	return 0;
}

/* A SYN that opens another connection on the tuple. README section 5, rule 2. */
static __always_inline int opens_another(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];

	if (!p->has_states || (p->flags & (FLAG_SYN | FLAG_ACK | FLAG_RST)) != FLAG_SYN)
		return 0;
	if (l->seen & SEEN_SYN)
		return l->isn != p->seq;
	return c->state != STATE_SYN_SENT;
}

/* A packet that may open no connection. */
static __always_inline int refused(struct packet *p)
{
	return !mid_stream && p->has_states && !(p->flags & FLAG_SYN);
}

static __always_inline void close_side(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];
	struct leg *other = &c->leg[!p->leg];
	u8 both;

	l->seen |= (p->flags & FLAG_FIN) << 1; /* SEEN_FIN */
	if (p->flags & FLAG_ACK && other->seen & SEEN_FIN &&
	    (p->proto != IPPROTO_TCP || (s32)(p->ack - other->next) >= 0))
		other->seen |= SEEN_FIN_ACKED;
	if (FORGET(c->state) == STATE_RESET || FORGET(c->state) == STATE_CLOSED)
		return;
	both = l->seen & other->seen;
	if (both & SEEN_FIN_ACKED)
		c->state = STATE_CLOSED;
	else if (both & SEEN_FIN)
		c->state = STATE_LAST_ACK;
	else if ((l->seen | other->seen) & SEEN_FIN)
		c->state = STATE_CLOSING;
}

/* Whether a reset lies where its connection is. README section 5, rule 1. */
static __always_inline int in_place(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];
	struct leg *other = &c->leg[!p->leg];

	if (p->proto != IPPROTO_TCP)
		return 1;
	if (other->seen & SEEN_ACK && (s32)(p->seq - other->ack) < 0)
		return 0;
	return !(l->seen & SEEN_NEXT) || (s32)(l->next - p->seq) >= 0;
}

/* The later packets of a TCP connection; under the lock. README section 5, rules 1 to 3. */
static __always_inline void tcp_next(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];
	struct leg *other = &c->leg[!p->leg];

	if (p->flags & FLAG_RST) {
		if (c->state != STATE_CLOSED && in_place(c, p))
			c->state = STATE_RESET;
		return;
	}
	start_numbers(l, p);
	if (p->flags & FLAG_SYN && !(l->seen & SEEN_SYN)) {
		remember_syn(l, p);
		if (c->state == STATE_SYN_SENT)
			c->state = STATE_SYN_RECEIVED;
	}
	if ((p->flags & (FLAG_SYN | FLAG_ACK)) == FLAG_SYN)
		return;
	if (c->state == STATE_SYN_RECEIVED && other->seen & SEEN_ACK && l->seen & SEEN_ACK &&
	    ((l->seen | other->seen) & SEEN_SYN_ACK_FIRST || l->seen & other->seen & SEEN_SYN))
		c->state = STATE_ESTABLISHED;
	close_side(c, p);
}

static __always_inline void list_hook(u16 *hooks, u16 hook)
{
	for (int i = 0; i < OTHER_HOOKS; i++) {
		if (hooks[i] == hook)
			return;
		if (!hooks[i]) {
			hooks[i] = hook;
			return;
		}
	}
}

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

/* Sends an event to user space; not 0 when the ring buffer is full. */
static __always_inline long hand_over(struct packet *p, struct event *e, u8 kind)
{
	e->kind = kind;
	e->family = p->family;
	e->key = p->key6;
	return bpf_ringbuf_output(&events, e, sizeof(*e), 0);
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

/* First step of replacing: takes a copy of a connection that has ended into the event, or
 * returns why it is not to be replaced.
 */
static __always_inline int take_end(struct conn *c, struct scratch *s, int family)
{
	struct event *e = (struct event *)s->event;
	struct packet *p = &s->packet;
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
	else if (opens_another(c, p))
		end = END_DETECTED;
	if (end && refused(p)) {
		result = LOST_MID_STREAM;
	} else if (end) {
		result = ENDED;
		copy_out(&e->conn, c);
		c->life = LIFE_ENDING;
	}
	bpf_spin_unlock(&c->lock);
	e->end = end;
	return result;
}

/* Last step: the connection's record is on its way, another one begins. What other CPUs have
 * counted since the copy counts in the new one.
 */
static __always_inline void give_place(struct conn *c, struct scratch *s)
{
	struct event *e = (struct event *)s->event;
	struct conn *fresh = (struct conn *)s->fresh;

	bpf_spin_lock(&c->lock);
	for (int i = 0; i < 2; i++) {
		__sync_fetch_and_add(&c->leg[i].packets, -e->conn.leg[i].packets);
		__sync_fetch_and_add(&c->leg[i].bytes, -e->conn.leg[i].bytes);
		copy_leg(&c->leg[i], &fresh->leg[i]);
	}
	copy_rest(c, fresh);
	bpf_spin_unlock(&c->lock);
}

/* The record found no room: the connection stays. */
static __always_inline void stay(struct conn *c, struct scratch *s)
{
	struct event *e = (struct event *)s->event;

	bpf_spin_lock(&c->lock);
	c->life = e->conn.life;
	bpf_spin_unlock(&c->lock);
}

/* Ends the connection in an entry and starts the packet's in its place, unless another CPU
 * has done so meanwhile.
 */
static __always_inline int replace(struct conn *c, struct __sk_buff *skb, struct scratch *s,
				   int family)
{
	struct packet *p = &s->packet;
	int result = take_end(c, s, family);

	if (result != ENDED)
		return result;
	if (hand_over(p, (struct event *)s->event, EVENT_REPLACED)) {
		stay(c, s);
		return LOST_RING_FULL;
	}
	build(skb);
	give_place(c, s);
	return count_packet(&c->leg[p->leg & 1], p);
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
	}
	bpf_spin_unlock(&c->lock);
	return result == ACCOUNTED ? count_packet(l, p) : result;
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
	struct event *e;

	if (!s)
		return LOST_NO_HOOK;
	e = (struct event *)s->event;
	copy_out(&e->conn, first_packet(skb, s));
	e->end = END_NO_ROOM;
	return hand_over(&s->packet, e, EVENT_PACKET) ? LOST_TABLE_FULL : ACCOUNTED;
}

#define E2BIG  7
#define EEXIST 17

/* What an insertion's error means for the packet. Before 6.4 the map's function returns an int,
 * whose upper half is not what a long says.
 */
static __always_inline int after_insert(int err)
{
	if (err == -EEXIST)
		return AGAIN;
	if (err == -E2BIG && !overflow_to_ring)
		return LOST_TABLE_FULL;
	return NO_PLACE;
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

static __always_inline int open4(struct __sk_buff *skb, struct scratch *s)
{
	struct key4 *k = (struct key4 *)s->fresh - 1;
	struct conn4 *c;
	int err;

	if (refused(&s->packet))
		return LOST_MID_STREAM;
	first_packet(skb, s)->life = LIFE_BORN;
	*k = s->packet.key4;
	err = bpf_map_update_elem(&conns4, &s->packet.key4, k, BPF_NOEXIST);
	if (err)
		return after_insert(err);
	c = bpf_map_lookup_elem(&conns4, &s->packet.key4);
	if (c)
		publish((struct conn *)(&c->key + 1));
	return ACCOUNTED;
}

static __always_inline int open6(struct __sk_buff *skb, struct scratch *s)
{
	struct key6 *k = (struct key6 *)s->fresh - 1;
	struct conn6 *c;
	int err;

	if (refused(&s->packet))
		return LOST_MID_STREAM;
	first_packet(skb, s)->life = LIFE_BORN;
	*k = s->packet.key6;
	err = bpf_map_update_elem(&conns6, &s->packet.key6, k, BPF_NOEXIST);
	if (err)
		return after_insert(err);
	c = bpf_map_lookup_elem(&conns6, &s->packet.key6);
	if (c)
		publish((struct conn *)(&c->key + 1));
	return ACCOUNTED;
}

/* Leg 1 goes from the upper endpoint to the lower. */
static __always_inline u8 leg_by_ports(struct packet *p)
{
	return FORGET(p->icmp) ? p->icmp_reply : p->port[0] > p->port[1];
}

static __always_inline void set_ports(struct packet *p, u16 *port)
{
	u32 lower = FORGET(p->icmp) ? 0 : p->leg;

	port[0] = p->port[lower & 1];
	port[1] = p->port[~lower & 1];
}

static __always_inline void key_of4(struct packet *p, struct key4 *k)
{
	u32 lower;

	p->leg = leg_by_ports(p);
	if (p->addr[0][0] != p->addr[1][0])
		p->leg = p->addr[0][0] > p->addr[1][0];
	lower = FORGET(p->leg);
	k->addr[0] = p->addr[lower & 1][0];
	k->addr[1] = p->addr[~lower & 1][0];
	set_ports(p, k->port);
	k->zone = p->zone;
	k->proto = p->proto;
	k->cites = p->cites;
}

static __always_inline void key_of6(struct packet *p, struct key6 *k)
{
	u32 lower;

	p->leg = leg_by_ports(p);
	if (p->addr[0][0] != p->addr[1][0])
		p->leg = p->addr[0][0] > p->addr[1][0];
	else if (p->addr[0][1] != p->addr[1][1])
		p->leg = p->addr[0][1] > p->addr[1][1];
	lower = FORGET(p->leg);
	for (int i = 0; i < 2; i++) {
		k->addr[0][i] = p->addr[lower & 1][i];
		k->addr[1][i] = p->addr[~lower & 1][i];
	}
	set_ports(p, k->port);
	k->zone = p->zone;
	k->proto = p->proto;
	k->cites = p->cites;
}

/* Tells the cited connection, if the table holds it, of an ICMP error. */
static __always_inline void note_error(struct conn *c, struct packet *p)
{
	if (c->life != LIFE_LIVE || expired(c, p->now))
		return;
	c->icmp_type = p->icmp_type;
	c->icmp_code = p->icmp_code;
}

static __always_inline void note_error4(struct packet *p)
{
	struct key4 cited = p->key4;
	struct conn4 *c;

	cited.proto = p->cites;
	cited.cites = 0;
	c = bpf_map_lookup_elem(&conns4, &cited);
	if (c && same4(&c->key, &cited))
		note_error((struct conn *)(&c->key + 1), p);
}

static __always_inline void note_error6(struct packet *p)
{
	struct key6 cited = p->key6;
	struct conn6 *c;

	cited.proto = p->cites;
	cited.cites = 0;
	c = bpf_map_lookup_elem(&conns6, &cited);
	if (c && same6(&c->key, &cited))
		note_error((struct conn *)(&c->key + 1), p);
}

/* One attempt to find or make the packet's entry. */
PART try4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct conn4 *found;

	if (!s)
		return LOST_NO_HOOK;
	found = bpf_map_lookup_elem(&conns4, &s->packet.key4);
	if (!found)
		return open4(skb, s);
	return update((struct conn *)(&found->key + 1), &s->packet, 4);
}

PART try6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct conn6 *found;

	if (!s)
		return LOST_NO_HOOK;
	found = bpf_map_lookup_elem(&conns6, &s->packet.key6);
	if (!found)
		return open6(skb, s);
	return update((struct conn *)(&found->key + 1), &s->packet, 6);
}

/* Replaces the entry that an attempt has found ended. */
PART replace4(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct conn4 *found;

	if (!s)
		return LOST_NO_HOOK;
	found = bpf_map_lookup_elem(&conns4, &s->packet.key4);
	if (!found)
		return AGAIN;
	return replace((struct conn *)(&found->key + 1), skb, s, 4);
}

PART replace6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct conn6 *found;

	if (!s)
		return LOST_NO_HOOK;
	found = bpf_map_lookup_elem(&conns6, &s->packet.key6);
	if (!found)
		return AGAIN;
	return replace((struct conn *)(&found->key + 1), skb, s, 6);
}

static __always_inline int attempt(struct __sk_buff *skb, struct packet *p)
{
	int result = p->family == 4 ? try4(skb) : try6(skb);

	if (result == ENDED)
		result = p->family == 4 ? replace4(skb) : replace6(skb);
	return result;
}

/* Counts the packet at hand in its connection. */
PART track(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);
	int result;

	if (!p)
		return LOST_NO_HOOK;
	interpret(p);
	if (gates & GATE_SAMPLE && !in_sample(hash_of(p)))
		return LEFT_OUT_SAMPLING;
	if (p->family == 4)
		key_of4(p, &p->key4);
	else
		key_of6(p, &p->key6);
	if (p->cites && p->family == 4)
		note_error4(p);
	else if (p->cites)
		note_error6(p);
	result = attempt(skb, p);
	if (result == AGAIN)
		result = attempt(skb, p);
	return result == AGAIN || result == NO_PLACE ? no_place(skb) : result;
}
