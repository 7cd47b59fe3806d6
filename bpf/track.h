/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its connection: README sections 3 to 7. */
#pragma once

#include "entry.h"
#include "key.h"

/* Tells the cited connection, if the table holds it, of an ICMP error. */
static __always_inline void note_error(struct conn *c, struct packet *p)
{
	if (c->life != LIFE_LIVE || expired(c, p->now))
		return;
	c->icmp_type = p->icmp_type;
	c->icmp_code = p->icmp_code;
}

static __always_inline void note_error4(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;
	struct conn4 *c = bpf_map_lookup_elem(&conns4, &p->key4);

	if (!c)
		return;
	if (has_slots((struct conn *)(&c->key + 1)))
		fold_slots(skb);
	if (same4(&c->key, &p->key4))
		note_error((struct conn *)(&c->key + 1), p);
}

static __always_inline void note_error6(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;
	struct conn6 *c = bpf_map_lookup_elem(&conns6, &p->key6);

	if (!c)
		return;
	if (has_slots((struct conn *)(&c->key + 1)))
		fold_slots(skb);
	if (same6(&c->key, &p->key6))
		note_error((struct conn *)(&c->key + 1), p);
}

/* For a moment the packet has the cited connection's key. */
static __always_inline void tell_cited(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;

	if (p->family == 4) {
		p->key4.proto = p->cites;
		p->key4.cites = 0;
		note_error4(skb, s);
		p->key4.proto = p->proto;
		p->key4.cites = p->cites;
	} else {
		p->key6.proto = p->cites;
		p->key6.cites = 0;
		note_error6(skb, s);
		p->key6.proto = p->proto;
		p->key6.cites = p->cites;
	}
}

/* Counts a packet in its entry, which first learns what CPUs have counted in slots, and closes
 * these when the packet may have changed the state.
 */
static __always_inline int update_all(struct conn *c, struct __sk_buff *skb, struct scratch *s,
				      int family)
{
	struct packet *p = &s->packet;
	int result;

	if (has_slots(c))
		fold_slots(skb);
	result = update(c, p, family);
	if (has_slots(c) && p->has_states && p->flags & CONTROL_FLAGS)
		close_slots(skb);
	return result;
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
		return open4(skb);
	return update_all((struct conn *)(&found->key + 1), skb, s, 4);
}

PART try6(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct conn6 *found;

	if (!s)
		return LOST_NO_HOOK;
	found = bpf_map_lookup_elem(&conns6, &s->packet.key6);
	if (!found)
		return open6(skb);
	return update_all((struct conn *)(&found->key + 1), skb, s, 6);
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

/* A SYN that asks for a connection is likely the first packet of one: the attempt to open it
 * comes before the look whether it is there, which would wait for the same memory.
 */
static __always_inline int likely_first(struct packet *p)
{
	return p->proto == IPPROTO_TCP && !p->cites &&
	       (p->flags & (FLAG_SYN | FLAG_ACK | FLAG_RST)) == FLAG_SYN &&
	       (p->family == 4 ? full4 : full6) != deletions;
}

static __always_inline int open_first(struct __sk_buff *skb, struct packet *p)
{
	return p->family == 4 ? open4(skb) : open6(skb);
}

/* Counts the packet at hand in its connection. */
PART track(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct packet *p;
	int result;

	if (!s)
		return LOST_NO_HOOK;
	p = &s->packet;
	interpret(p);
	if (gates & GATE_SAMPLE && !in_sample(hash_of(p)))
		return LEFT_OUT_SAMPLING;
	if (p->family == 4)
		key_of4(p, &p->key4);
	else
		key_of6(p, &p->key6);
	if (p->cites)
		tell_cited(skb, s);
	if (likely_first(p) && open_first(skb, p) == ACCOUNTED)
		return ACCOUNTED;
	result = attempt(skb, p);
	if (result == AGAIN)
		result = attempt(skb, p);
	return result == AGAIN || result == NO_PLACE ? no_place(skb) : result;
}
