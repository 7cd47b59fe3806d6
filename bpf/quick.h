/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The short way of most packets: TCP and UDP over Ethernet and IP without options, in a live
 * connection that they do not change. It counts as the long way would, or leaves a packet to
 * it. Nothing of the packet goes through memory here.
 */
#pragma once

#include "tally.h"
#include "track.h"

/* The slot where a leg is counted on this CPU, if it is counted in one. */
static __always_inline struct slot4 *own_slot4(u64 addrs, u64 name)
{
	struct slot4 *s;
	u32 at;

	if (!slots)
		return NULL;
	at = own_slots() + slot_index(addrs, name);
	s = bpf_map_lookup_elem(&cache4, &at);
	if (!s || s->slot.life == SLOT_FREE || (s->addrs == addrs && s->slot.name == name))
		return s;
	at ^= 1;
	return bpf_map_lookup_elem(&cache4, &at);
}

static __always_inline struct slot6 *own_slot6(struct ipv6 *ip, u64 name)
{
	struct slot6 *s;
	u32 at;

	if (!slots)
		return NULL;
	at = own_slots() + slot_index6(ip->src, ip->dst, name);
	s = bpf_map_lookup_elem(&cache6, &at);
	if (!s || s->slot.life == SLOT_FREE ||
	    (s->slot.name == name && same_addr(s->addrs[0], ip->src) &&
	     same_addr(s->addrs[1], ip->dst)))
		return s;
	at ^= 1;
	return bpf_map_lookup_elem(&cache6, &at);
}

/* Whether the slot is open for the leg that is called so. */
static __always_inline int is_slot4(struct slot4 *s, u64 addrs, u64 name)
{
	return s->addrs == addrs && s->slot.name == name && s->slot.life == SLOT_OPEN;
}

static __always_inline int is_slot6(struct slot6 *s, struct ipv6 *ip, u64 name)
{
	return s->slot.name == name && same_addr(s->addrs[0], ip->src) &&
	       same_addr(s->addrs[1], ip->dst) && s->slot.life == SLOT_OPEN;
}

static __always_inline void name_slot4(struct slot4 *s, u64 addrs, u64 name)
{
	s->addrs = addrs;
	s->slot.name = name;
}

static __always_inline void name_slot6(struct slot6 *s, struct ipv6 *ip, u64 name)
{
	for (int i = 0; i < 2; i++) {
		s->addrs[0][i] = ip->src[i];
		s->addrs[1][i] = ip->dst[i];
	}
	s->slot.name = name;
}

#define SHORT_IPV4 (ETH_HLEN + sizeof(struct ipv4) + sizeof(struct tcp))
#define SHORT_IPV6 (ETH_HLEN + sizeof(struct ipv6) + sizeof(struct tcp))

/* A packet that changes nothing that the lock guards. */
static __always_inline int is_plain(struct conn *c, struct leg *l, struct packet *p)
{
	u8 known = SEEN_NEXT | (p->flags & FLAG_ACK ? SEEN_ACK : 0);

	if (p->flags & ~l->flags)
		return 0;
	if (!p->has_states)
		return 1;
	if (p->flags & CONTROL_FLAGS || (c->state != STATE_ESTABLISHED &&
					 c->state != STATE_CLOSED && c->state != STATE_RESET))
		return 0;
	return !p->has_numbers || (l->seen & known) == known;
}

/* What a packet shows that was judged by one connection and counted in the next, which another
 * CPU has put in its place meanwhile. When that has counted nothing but the SYN that opened it,
 * the packet is in the record of the one before.
 */
static __always_inline void show_late(struct conn *c, struct leg *l, struct packet *p)
{
	u64 counted;

	bpf_spin_lock(&c->lock);
	counted = (s64)((l->seen & SEEN_SYN) - l->packets) >> 63; /* all bits, or none */
	l->flags |= p->flags & counted;
	if (!l->owner) {
		l->owner = p->hook & counted;
		l->first = l->last & counted;
	}
	bpf_spin_unlock(&c->lock);
}

static __always_inline int count_plain(struct conn *c, struct leg *l, struct packet *p)
{
	if (p->has_numbers)
		move_numbers(l, p);
	count_packet(l, p);
	if ((FORGET(l->owner) ^ p->hook) | (p->flags & ~FORGET(l->flags)))
		show_late(c, l, p);
	return ACCOUNTED;
}

static __always_inline int has_hook(u16 *hooks, u16 hook)
{
	return hooks[0] == hook || hooks[1] == hook || hooks[2] == hook;
}

/* Says what becomes of a packet; the caller counts it. */
static __always_inline int quick_judge(struct conn *c, struct packet *p, int family, void *key)
{
	struct leg *l = &c->leg[p->leg & 1];
	u8 life = FORGET(c->life);
	int same;

	if (family == 4)
		same = same4((struct key4 *)c - 1, key);
	else
		same = same6((struct key6 *)c - 1, key);
	if (!same || life != LIFE_LIVE || idle_too_long(c, l->last, p->now))
		return LONG_WAY;
	if (l->owner != p->hook)
		return !counts(l, p) && has_hook(c->hooks[p->leg & 1], p->hook) ? OBSERVED
										: LONG_WAY;
	return is_plain(c, l, p) ? ACCOUNTED : LONG_WAY;
}

/* A packet whose connection is not there: lost if none can be opened, as the long way would
 * say. */
static __always_inline int quick_miss(struct packet *p, u64 full)
{
	if (overflow_to_ring || full != deletions)
		return LONG_WAY;
	return refused(p) ? LOST_MID_STREAM : LOST_TABLE_FULL;
}

/* Whether TCP or UDP is whole, and the packet opens or ends nothing. */
static __always_inline int quick_transport(struct packet *p, struct tcp *h)
{
	u32 length = (h->offset >> 4) * 4;
	struct udp *udp = (struct udp *)h;

	p->port[0] = h->sport;
	p->port[1] = h->dport;
	p->has_states = p->proto == IPPROTO_TCP;
	p->has_numbers = p->has_states;
	if (p->has_states)
		return length >= sizeof(*h) && length <= p->left && !(h->flags & CONTROL_FLAGS);
	return p->left >= sizeof(*udp) && bpf_ntohs(udp->len) >= sizeof(*udp) && !tunnels;
}

/* Reads the rest of a TCP header. */
static __always_inline void quick_numbers(struct packet *p, struct tcp *h)
{
	p->flags = 0;
	if (!p->has_numbers)
		return;
	p->flags = h->flags;
	p->seq = bpf_ntohl(h->seq);
	p->ack = bpf_ntohl(h->ack);
	p->payload = p->left - (h->offset >> 4) * 4;
}

/* How much the packet is, behind `headers` bytes; 0 when the long way has to find out. */
static __always_inline int quick_measure(struct __sk_buff *skb, struct packet *p, struct tcp *h,
					 u32 headers)
{
	u32 tagged = skb->vlan_present * 4;

	p->packets = 1;
	p->bytes = skb->len + tagged;
	if (!p->gso)
		return 1;
	headers += p->has_numbers ? (h->offset >> 4) * 4 : sizeof(struct udp);
	p->packets = skb->gso_segs;
	p->bytes += (u64)(p->packets - 1) * (headers + tagged);
	return p->packets > 0;
}

/* The part of a key behind its addresses. */
static __always_inline void quick_key(struct packet *p, u16 *port, u16 *zone, u8 *proto)
{
	port[0] = p->leg ? p->port[1] : p->port[0];
	port[1] = p->leg ? p->port[0] : p->port[1];
	*zone = p->zone;
	*proto = p->proto;
}

static __always_inline u64 quick_hash4(struct packet *p, struct ipv4 *ip)
{
	return mix(endpoint_hash4(bpf_ntohs(p->port[0]), bpf_ntohl(ip->src)) +
			   endpoint_hash4(bpf_ntohs(p->port[1]), bpf_ntohl(ip->dst)),
		   p->proto);
}

static __always_inline u64 quick_hash6(struct packet *p, struct ipv6 *ip)
{
	return mix(endpoint_hash6(bpf_ntohs(p->port[0]), bpf_be64_to_cpu(ip->src[0]),
				  bpf_be64_to_cpu(ip->src[1])) +
			   endpoint_hash6(bpf_ntohs(p->port[1]), bpf_be64_to_cpu(ip->dst[0]),
					  bpf_be64_to_cpu(ip->dst[1])),
		   p->proto);
}

/* Whether a packet's IPv4 header is a plain one, of a whole packet. */
static __always_inline int quick_ipv4(struct __sk_buff *skb, struct packet *p, struct ipv4 *ip)
{
	u32 total = bpf_ntohs(ip->total);

	if (ip->ihl_version != 0x45 || ip->fragment & bpf_htons(IP_MORE | IP_OFFSET))
		return 0;
	p->left = skb->len - ETH_HLEN;
	if (!p->gso) {
		if (total < sizeof(*ip) || total > p->left)
			return 0;
		p->left = total;
	}
	p->left -= sizeof(*ip);
	return 1;
}

static __always_inline int quick_ipv6(struct __sk_buff *skb, struct packet *p, struct ipv6 *ip)
{
	u32 payload = bpf_ntohs(ip->payload);

	if ((ip->version & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return 0;
	p->left = skb->len - ETH_HLEN - sizeof(*ip);
	if (!p->gso) {
		if (!payload || payload > p->left)
			return 0;
		p->left = payload;
	}
	return 1;
}

/* Says what becomes of a packet, and counts it in its connection. */
static __always_inline int quick_count4(struct packet *p, struct ipv4 *ip)
{
	struct conn4 *found;
	struct conn *c;
	struct leg *l;
	struct slot4 *slot;
	u64 addrs, name, last;
	struct key4 k;
	int result;

	p->now = now_ns();
	addrs = *(u64 *)&ip->src;
	name = slot_name(p->port[0], p->port[1], p->hook, p->proto);
	slot = own_slot4(addrs, name);
	if (slots && !slot)
		return LONG_WAY;
	if (slots && is_slot4(slot, addrs, name) && hit(&slot->slot, p))
		return ACCOUNTED;
	p->leg = ip->src != ip->dst ? ip->src > ip->dst : p->port[0] > p->port[1];
	k.addr[0] = p->leg ? ip->dst : ip->src;
	k.addr[1] = p->leg ? ip->src : ip->dst;
	quick_key(p, k.port, &k.zone, &k.proto);
	k.cites = 0;
	found = bpf_map_lookup_elem(&conns4, &k);
	if (!found)
		return quick_miss(p, full4);
	c = (struct conn *)(&found->key + 1);
	l = &c->leg[p->leg & 1];
	result = quick_judge(c, p, 4, &k);
	if (result != ACCOUNTED)
		return result;
	if (!slots)
		return count_plain(c, l, p);
	last = l->last;
	count_plain(c, l, p);
	if (is_slot4(slot, addrs, name)) {
		catch_up(l, last, &slot->slot);
		if (slot_ns)
			renew(l, &slot->slot, p);
	} else if (slot->slot.life == SLOT_FREE && wants_slot(l, p)) {
		name_slot4(slot, addrs, name);
		open_slot(c, l, &slot->slot, p);
	}
	return ACCOUNTED;
}

/* The same for IPv6. */
static __always_inline int quick_count6(struct packet *p, struct ipv6 *ip)
{
	struct conn6 *found;
	struct conn *c;
	struct leg *l;
	struct slot6 *slot;
	struct key6 k;
	u64 name, last;
	int result;

	p->now = now_ns();
	name = slot_name(p->port[0], p->port[1], p->hook, p->proto);
	slot = own_slot6(ip, name);
	if (slots && !slot)
		return LONG_WAY;
	if (slots && is_slot6(slot, ip, name) && hit(&slot->slot, p))
		return ACCOUNTED;
	p->leg = p->port[0] > p->port[1];
	if (ip->src[0] != ip->dst[0])
		p->leg = ip->src[0] > ip->dst[0];
	else if (ip->src[1] != ip->dst[1])
		p->leg = ip->src[1] > ip->dst[1];
	for (int i = 0; i < 2; i++) {
		k.addr[0][i] = p->leg ? ip->dst[i] : ip->src[i];
		k.addr[1][i] = p->leg ? ip->src[i] : ip->dst[i];
	}
	quick_key(p, k.port, &k.zone, &k.proto);
	k.cites = 0;
	found = bpf_map_lookup_elem(&conns6, &k);
	if (!found)
		return quick_miss(p, full6);
	c = (struct conn *)(&found->key + 1);
	l = &c->leg[p->leg & 1];
	result = quick_judge(c, p, 6, &k);
	if (result != ACCOUNTED)
		return result;
	if (!slots)
		return count_plain(c, l, p);
	last = l->last;
	count_plain(c, l, p);
	if (is_slot6(slot, ip, name)) {
		catch_up(l, last, &slot->slot);
		if (slot_ns)
			renew(l, &slot->slot, p);
	} else if (slot->slot.life == SLOT_FREE && wants_slot(l, p)) {
		name_slot6(slot, ip, name);
		open_slot(c, l, &slot->slot, p);
	}
	return ACCOUNTED;
}

static __always_inline int quick4(struct __sk_buff *skb, struct packet *p, struct ipv4 *ip)
{
	struct tcp *h = (struct tcp *)(ip + 1);

	p->proto = ip->protocol;
	if (!quick_ipv4(skb, p, ip) || !quick_transport(p, h) ||
	    !quick_measure(skb, p, h, ETH_HLEN + sizeof(*ip)))
		return LONG_WAY;
	if (gates & GATE_SAMPLE && !in_sample(quick_hash4(p, ip)))
		return tally(p->hook, p, LEFT_OUT_SAMPLING);
	quick_numbers(p, h);
	return tally(p->hook, p, quick_count4(p, ip));
}

static __always_inline int quick6(struct __sk_buff *skb, struct packet *p, struct ipv6 *ip)
{
	struct tcp *h = (struct tcp *)(ip + 1);

	p->proto = ip->next;
	if (!quick_ipv6(skb, p, ip) || !quick_transport(p, h) ||
	    !quick_measure(skb, p, h, ETH_HLEN + sizeof(*ip)))
		return LONG_WAY;
	if (gates & GATE_SAMPLE && !in_sample(quick_hash6(p, ip)))
		return tally(p->hook, p, LEFT_OUT_SAMPLING);
	quick_numbers(p, h);
	return tally(p->hook, p, quick_count6(p, ip));
}

/* Counts the packet, or returns LONG_WAY. */
static __always_inline int quick(struct __sk_buff *skb, struct packet *p, u32 number,
				 struct hook *h)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	void *ip = data + ETH_HLEN;
	__be16 type;
	u8 proto;

	if (data + SHORT_IPV4 > end || h->flags & HOOK_L3 || gates & GATE_FILTER)
		return LONG_WAY;
	p->hook = number;
	p->zone = h->zone;
	p->cites = 0;
	p->fragment = FRAGMENT_NONE;
	p->gso = skb->gso_size > 0;
	type = *(__be16 *)(ip - sizeof(type));
	if (type == bpf_htons(ETH_P_IP)) {
		proto = ((struct ipv4 *)ip)->protocol;
		if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
			return LONG_WAY;
		return quick4(skb, p, ip);
	}
	if (type != bpf_htons(ETH_P_IPV6) || data + SHORT_IPV6 > end)
		return LONG_WAY;
	proto = ((struct ipv6 *)ip)->next;
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return LONG_WAY;
	return quick6(skb, p, ip);
}
