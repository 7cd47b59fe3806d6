/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which packets are counted: README section 3, Filters. */
#pragma once

#include "parse.h"

/* The first rule is filter_list's low 16 bits, the number of rules the next 16. */
#define FILTER_REJECTS (1ULL << 32) /* a packet that no rule matches */

static __always_inline int side_matches(struct packet *p, struct rule *r, u32 of, u32 is)
{
	u64 differs = (p->addr[of & 1][0] ^ r->addr[is][0]) & r->mask[is][0];

	differs |= (p->addr[of & 1][1] ^ r->addr[is][1]) & r->mask[is][1];
	return !differs;
}

static __always_inline int port_matches(struct packet *p, struct rule *r, u32 of, u32 is)
{
	u16 port = bpf_ntohs(p->port[of & 1]);

	return port >= r->from[is] && port <= r->to[is];
}

/* Whether the packet's endpoints are the rule's, the packet's `first` one being the source. */
static __always_inline int ends_match(struct packet *p, struct rule *r, u32 first)
{
	if (!side_matches(p, r, first, 0) || !side_matches(p, r, ~first, 1))
		return 0;
	return !(r->flags & RULE_PORTS) ||
	       (port_matches(p, r, first, 0) && port_matches(p, r, ~first, 1));
}

static __always_inline int has_ports(struct packet *p)
{
	return p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || p->proto == IPPROTO_SCTP;
}

static __always_inline int has_flags(struct packet *p)
{
	return (p->proto == IPPROTO_TCP || p->proto == IPPROTO_SCTP) &&
	       p->fragment != FRAGMENT_LATER;
}

static __always_inline int header_matches(struct packet *p, struct rule *r)
{
	if (r->family && r->family != p->family)
		return 0;
	if (r->flags & RULE_PROTOCOL && r->proto != p->proto)
		return 0;
	if (r->flags & RULE_FLAGS &&
	    (!has_flags(p) || (p->flags & r->flags_mask) != r->flags_match))
		return 0;
	if (r->flags & RULE_ICMP_TYPE && (!p->icmp_header || p->icmp_type != r->icmp_type))
		return 0;
	if (r->flags & RULE_ICMP_CODE && (!p->icmp_header || p->icmp_code != r->icmp_code))
		return 0;
	return !(r->flags & RULE_PORTS) || has_ports(p);
}

/* Asks the rule at hand: 0 it accepts the packet, 1 it rejects it, -1 it does not match. */
PART ask_rule(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct rule *r;

	if (!s)
		return -1;
	r = bpf_map_lookup_elem(&rules, &s->rule);
	if (!r || !header_matches(&s->packet, r))
		return -1;
	if (!ends_match(&s->packet, r, 0) &&
	    !(r->flags & RULE_EITHER && ends_match(&s->packet, r, 1)))
		return -1;
	return r->flags & RULE_REJECT;
}

/* Whether the packet at hand is left out. */
static __always_inline int rejected(struct __sk_buff *skb, struct scratch *s)
{
	u64 list = filter_list;
	u32 count = list >> 16 & 0xffff;

	s->rule = list & 0xffff;
	for (u32 i = 0; i < MAX_RULES && i < count; i++) {
		int answer = ask_rule(skb);

		if (answer >= 0)
			return answer;
		FORGET(s->rule) += 1;
	}
	return !!(list & FILTER_REJECTS);
}
