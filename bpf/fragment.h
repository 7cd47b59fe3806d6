/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments find the ports of their first one: README section 3. */
#pragma once

#include "parse.h"

#define FRAGMENT_TIME 30000000000ULL /* ns; ip_frag_time in net/ipv4/ip_fragment.c */

static __always_inline void fragment_key(struct packet *p, struct fragment_key *k)
{
	k->src[0] = p->addr[0][0];
	k->src[1] = p->addr[0][1];
	k->dst[0] = p->addr[1][0];
	k->dst[1] = p->addr[1][1];
	k->datagram = p->datagram;
	k->zone = p->zone;
	k->family = p->family;
	k->proto = p->family == 4 ? p->proto : 0;
}

static __always_inline int join_fragment(struct packet *p, struct fragment_key *k)
{
	struct fragment_tuple *t = bpf_map_lookup_elem(&fragments, k);

	if (!t || (s64)(p->now - t->at) > (s64)FRAGMENT_TIME)
		return LOST_FRAGMENT;
	p->proto = t->proto;
	p->port[0] = t->sport;
	p->port[1] = t->dport;
	p->icmp_reply = t->icmp_reply;
	return PARSED;
}

/* Remembers the packet at hand, or finds what it belongs to. */
PART put_together(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);
	struct fragment_tuple t = {};
	struct fragment_key k;

	if (!p)
		return LOST_NO_HOOK;
	fragment_key(p, &k);
	if (p->fragment == FRAGMENT_LATER)
		return join_fragment(p, &k);
	if (p->cites)
		return PARSED;
	t.at = p->now;
	t.proto = p->proto;
	t.sport = p->port[0];
	t.dport = p->port[1];
	t.icmp_reply = p->icmp_reply;
	bpf_map_update_elem(&fragments, &k, &t, BPF_ANY);
	return PARSED;
}
