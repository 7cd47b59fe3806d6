/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The states of connections, and what a packet makes of them: README section 5. */
#pragma once

#include "sample.h"
#include "expire.h"

/* What became of a packet. Other values are enum lost. */
#define ACCOUNTED (-1)
#define OBSERVED  (-2)
#define AGAIN	  (-3) /* the table changed under us; look it up again */
#define NO_PLACE  (-4) /* hand it to user space through the ring buffer */
#define ENDED	  (-5) /* its connection has; replace it */
#define LONG_WAY  (-6) /* a short way does not know */

#define CONTROL_FLAGS (FLAG_SYN | FLAG_FIN | FLAG_RST)

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

/* A leg has packets that nobody has seen come, as they were judged by the connection before. */
static __always_inline void own_late(struct leg *l, u16 hook)
{
	l->owner = hook;
	l->first = l->last;
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
