/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The packet inside a tunnel: README section 3. */
#pragma once

#include "parse.h"

#define PORT_VXLAN   4789
#define PORT_GENEVE  6081
#define GRE_CHECKSUM 0x8000
#define GRE_KEY	     0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_REFUSED  0x4fff /* routing, reserved bits, versions other than 0 */

/* The kind of tunnel that a packet with its transport header read belongs to; 0: none that is
 * opened.
 */
static __always_inline u8 tunnel_of(struct packet *p)
{
	u8 kind = 0;

	if (p->proto == IPPROTO_GRE)
		kind = TUNNEL_GRE;
	else if (p->proto == IPPROTO_IPIP || p->proto == IPPROTO_IPV6)
		kind = TUNNEL_IPIP;
	else if (p->proto == IPPROTO_UDP && p->port[1] == bpf_htons(PORT_VXLAN))
		kind = TUNNEL_VXLAN;
	else if (p->proto == IPPROTO_UDP && p->port[1] == bpf_htons(PORT_GENEVE))
		kind = TUNNEL_GENEVE;
	return kind & tunnels;
}

/* Each of these passes a tunnel's header over and sets p->type; not 0 when it cannot be read.
 */
static __always_inline int enter_vxlan(struct __sk_buff *skb, struct packet *p)
{
	if (!bytes(skb, p, 16))
		return -1;
	advance(p, 16);
	p->type = bpf_htons(ETH_P_BRIDGED);
	return 0;
}

static __always_inline int enter_geneve(struct __sk_buff *skb, struct packet *p)
{
	u8 *h = bytes(skb, p, 16);

	if (!h || h[8] & 0xc0)
		return -1;
	p->length = 16 + (h[8] & 0x3f) * 4;
	p->type = *(__be16 *)(h + 10);
	if (p->left < FORGET(p->length))
		return -1;
	advance(p, FORGET(p->length));
	return 0;
}

static __always_inline int enter_gre(struct __sk_buff *skb, struct packet *p)
{
	__be16 *h = bytes(skb, p, 4);
	u16 bits;

	if (!h)
		return -1;
	bits = bpf_ntohs(h[0]);
	if (bits & GRE_REFUSED)
		return -1;
	p->type = h[1];
	p->length = 4 + !!(bits & GRE_CHECKSUM) * 4 + !!(bits & GRE_KEY) * 4 +
		    !!(bits & GRE_SEQUENCE) * 4;
	if (p->left < FORGET(p->length))
		return -1;
	advance(p, FORGET(p->length));
	return 0;
}

static __always_inline int enter(struct __sk_buff *skb, struct packet *p, u8 kind)
{
	if (kind == TUNNEL_VXLAN)
		return enter_vxlan(skb, p);
	if (kind == TUNNEL_GENEVE)
		return enter_geneve(skb, p);
	if (kind == TUNNEL_GRE)
		return enter_gre(skb, p);
	p->type = p->proto == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return 0;
}

/* Puts the packet inside in the place of the one at hand, if it can be read. */
PART parse_inside(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct packet *p;
	int result;
	u8 kind;

	if (!s)
		return LOST_NO_HOOK;
	p = &s->packet;
	kind = tunnel_of(p);
	if (!kind || p->fragment || p->cites)
		return PARSED;
	s->outer = *p;
	p->tags = 0;
	p->flags = 0;
	__builtin_memset(p->addr, 0, sizeof(p->addr));
	p->port[0] = 0;
	p->port[1] = 0;
	result = enter(skb, p, kind) ? LOST_NOT_IP : PARSED;
	if (result == PARSED && FORGET(p->type) == bpf_htons(ETH_P_BRIDGED))
		result = parse_link(skb, p);
	if (result == PARSED)
		result = parse_ip(skb);
	if (result != PARSED || FORGET(p->fragment) == FRAGMENT_LATER) {
		s->outer.cut = p->cut;
		*p = s->outer;
		return PARSED;
	}
	p->fragment = FRAGMENT_NONE;
	return PARSED;
}
