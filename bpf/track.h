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
