/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Slots of all CPUs are folded into their connection's entry: README section 10. */
#pragma once

#include "cache.h"

/* A slot that is to be folded into the entry of a leg. The packet path and `collect` have one
 * each, as a packet may interrupt the latter.
 */
struct visit {
	struct key6 key; /* IPv4 keys use the first 16 bytes */
	u32 family;
	u32 leg;
	u32 at;	  /* the slot */
	u32 step; /* enum slot_step */
};

enum visitor {
	VISIT_PACKET,
	VISIT_WORK,
	VISITORS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct visit);
	__uint(max_entries, VISITORS);
} visits SEC(".maps");

/* Whether a slot's name is that of the leg, whichever hook has counted. */
static __always_inline int named_so(struct slot *s, u16 *port, u32 leg, u8 proto)
{
	u64 name = slot_name(port[leg & 1], port[~leg & 1], s->name >> 32, proto);

	return s->life != SLOT_FREE && s->name == name;
}

/* Under the lock. Of a connection that has taken the tuple since, the leg may not have been
 * seen. */
static __always_inline void fold_leg(struct leg *l, struct slot *s, u32 step)
{
	fold(l, s, step);
	if (!l->owner && l->packets)
		own_late(l, s->name >> 32);
}

/* The slot could have become another leg's since it was found: it is asked under the lock. */
static __always_inline void visit4(struct visit *v)
{
	struct conn4 *found = bpf_map_lookup_elem(&conns4, &v->key);
	struct slot4 *s;
	struct conn *c;
	u32 leg = v->leg & 1;
	u64 addrs;

	if (!found)
		return;
	s = bpf_map_lookup_elem(&cache4, &v->at);
	if (!s)
		return;
	c = (struct conn *)(&found->key + 1);
	addrs = found->key.addr[leg] | (u64)found->key.addr[!leg] << 32;
	bpf_spin_lock(&c->lock);
	if (s->addrs == addrs && named_so(&s->slot, found->key.port, leg, found->key.proto))
		fold_leg(&c->leg[leg], &s->slot, v->step);
	bpf_spin_unlock(&c->lock);
}

static __always_inline void visit6(struct visit *v)
{
	struct conn6 *found = bpf_map_lookup_elem(&conns6, &v->key);
	struct slot6 *s;
	struct conn *c;
	u32 leg = v->leg & 1;

	if (!found)
		return;
	s = bpf_map_lookup_elem(&cache6, &v->at);
	if (!s)
		return;
	c = (struct conn *)(&found->key + 1);
	bpf_spin_lock(&c->lock);
	if (same_addr(s->addrs[0], found->key.addr[leg]) &&
	    same_addr(s->addrs[1], found->key.addr[!leg]) &&
	    named_so(&s->slot, found->key.port, leg, found->key.proto))
		fold_leg(&c->leg[leg], &s->slot, v->step);
	bpf_spin_unlock(&c->lock);
}

static __always_inline struct visit *visit_of(u32 visitor)
{
	return bpf_map_lookup_elem(&visits, &visitor);
}

static __always_inline int visit(struct __sk_buff *skb, u32 visitor)
{
	struct visit *v = visit_of(visitor);

	asm volatile("" : : "r"(skb)); /* keeps the argument */
	if (!v)
		return 0;
	if (v->family == 4)
		visit4(v);
	else
		visit6(v);
	return 0;
}

PART visit_for_packet(struct __sk_buff *skb)
{
	return visit(skb, VISIT_PACKET);
}

PART visit_for_work(struct __sk_buff *skb)
{
	return visit(skb, VISIT_WORK);
}

/* Visitor is a constant at each call. */
static __always_inline void visit_slot(struct __sk_buff *skb, struct visit *v, u32 visitor,
				       u32 at)
{
	v->at = at;
	if (visitor == VISIT_WORK)
		visit_for_work(skb);
	else
		visit_for_packet(skb);
}

/* Folds the slots of a leg, on all CPUs. */
static __always_inline void gather_leg4(struct __sk_buff *skb, struct visit *v, u32 visitor)
{
	struct conn4 *found = bpf_map_lookup_elem(&conns4, &v->key);
	u32 leg = v->leg & 1, place;
	u64 addrs, name;
	struct key4 *k;
	struct leg *l;

	if (!found)
		return;
	k = &found->key;
	l = &((struct conn *)(k + 1))->leg[leg];
	if (!(l->seen & SEEN_CACHED))
		return;
	addrs = k->addr[leg] | (u64)k->addr[!leg] << 32;
	name = slot_name(k->port[leg], k->port[!leg], l->owner, k->proto);
	place = slot_index(addrs, name);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < SLOT_WAYS * possible_cpus; i++) {
		u32 at = (place ^ (i & 1)) + (i / SLOT_WAYS) * slots;
		struct slot4 *s = bpf_map_lookup_elem(&cache4, &at);

		if (s && s->addrs == addrs && s->slot.name == name)
			visit_slot(skb, v, visitor, at);
	}
}

static __always_inline void gather_leg6(struct __sk_buff *skb, struct visit *v, u32 visitor)
{
	struct conn6 *found = bpf_map_lookup_elem(&conns6, &v->key);
	u32 leg = v->leg & 1, place;
	struct key6 *k;
	struct leg *l;
	u64 name;

	if (!found)
		return;
	k = &found->key;
	l = &((struct conn *)(k + 1))->leg[leg];
	if (!(l->seen & SEEN_CACHED))
		return;
	name = slot_name(k->port[leg], k->port[!leg], l->owner, k->proto);
	place = slot_index6(k->addr[leg], k->addr[!leg], name);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < SLOT_WAYS * possible_cpus; i++) {
		u32 at = (place ^ (i & 1)) + (i / SLOT_WAYS) * slots;
		struct slot6 *s = bpf_map_lookup_elem(&cache6, &at);

		if (s && s->slot.name == name && same_addr(s->addrs[0], k->addr[leg]) &&
		    same_addr(s->addrs[1], k->addr[!leg]))
			visit_slot(skb, v, visitor, at);
	}
}

static __always_inline int gather_leg(struct __sk_buff *skb, u32 visitor)
{
	struct visit *v = visit_of(visitor);

	if (!v)
		return 0;
	if (v->family == 4)
		gather_leg4(skb, v, visitor);
	else
		gather_leg6(skb, v, visitor);
	return 0;
}

PART gather_leg_for_packet(struct __sk_buff *skb)
{
	return gather_leg(skb, VISIT_PACKET);
}

PART gather_leg_for_work(struct __sk_buff *skb)
{
	return gather_leg(skb, VISIT_WORK);
}

/* Folds all slots of a connection, whose key is in the visit. */
static __always_inline int gather(struct __sk_buff *skb, u32 visitor)
{
	struct visit *v = visit_of(visitor);

	if (!v)
		return 0;
	for (u32 leg = 0; leg < 2; leg++) {
		v->leg = leg;
		if (visitor == VISIT_WORK)
			gather_leg_for_work(skb);
		else
			gather_leg_for_packet(skb);
	}
	return 0;
}

PART gather_for_packet(struct __sk_buff *skb)
{
	return gather(skb, VISIT_PACKET);
}

PART gather_for_work(struct __sk_buff *skb)
{
	return gather(skb, VISIT_WORK);
}

/* Does so for the packet at hand. */
static __always_inline int gather_slots(struct __sk_buff *skb, u32 step)
{
	struct packet *p = packet_at_hand(skb);
	struct visit *v = visit_of(VISIT_PACKET);

	if (!v || !p)
		return 0;
	v->key = p->key6;
	v->family = p->family;
	v->step = step;
	return gather_for_packet(skb);
}

PART fold_slots(struct __sk_buff *skb)
{
	return gather_slots(skb, SLOT_STAYS);
}

PART close_slots(struct __sk_buff *skb)
{
	return gather_slots(skb, SLOT_CLOSES);
}

static __always_inline int has_slots(struct conn *c)
{
	return (c->leg[0].seen | c->leg[1].seen) & SEEN_CACHED;
}
