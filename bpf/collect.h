/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The sweep's side of an entry: README sections 6 and 9. User space fills `works`, runs the
 * program until all items are done (a test run repeats it), and reads the answers.
 */
#pragma once

#include "track.h"

static __always_inline int acknowledge(struct conn *c, struct work *w)
{
	if (c->life == LIFE_DEAD || c->life == LIFE_BORN)
		return WORK_GONE;
	c->reported[0] = w->reported[0];
	c->reported[1] = w->reported[1];
	c->reported_at = w->reported_at;
	/* The record that is being handed over was measured from the mark before; should it
	 * find no room, the entry stays with this one.
	 */
	return c->life == LIFE_ENDING ? WORK_GONE : WORK_DONE;
}

/* README section 6. The Go side is Entry.Unanswered. */
static __always_inline int unanswered(struct conn *c)
{
	return !c->leg[0].owner || !c->leg[1].owner || c->state == STATE_SYN_RECEIVED;
}

static __always_inline int may_retire(struct conn *c, struct work *w, u64 now)
{
	return w->op == WORK_FORCE || (w->op == WORK_EVICT && unanswered(c)) || expired(c, now);
}

static __always_inline int retire(struct conn *c, struct work *w, u64 now)
{
	if (c->life == LIFE_RETIRED)
		return WORK_DONE; /* by a sweep that did not come to its end */
	if (c->life != LIFE_LIVE || !may_retire(c, w, now))
		return WORK_GONE;
	c->life = LIFE_RETIRED;
	return WORK_DONE;
}

/* After every CPU has left the packet path once, nobody counts in a retired entry. */
static __always_inline int read_final(struct conn *c, struct conn *out)
{
	if (c->life != LIFE_RETIRED)
		return WORK_GONE;
	copy_out(out, c);
	return WORK_DONE;
}

static __always_inline int bury(struct conn *c)
{
	if (c->life != LIFE_RETIRED)
		return WORK_GONE;
	c->life = LIFE_DEAD;
	return WORK_DONE;
}

/* The kernel may refuse to delete (README section 9, EBUSY). The entry is retired again then,
 * and the next sweep deletes it.
 */
static __always_inline void deleted(long err, struct conn *c, struct work *w)
{
	if (!err) {
		deletions++;
		return;
	}
	bpf_spin_lock(&c->lock);
	if (c->id == w->id && c->life == LIFE_DEAD)
		c->life = LIFE_RETIRED;
	bpf_spin_unlock(&c->lock);
	w->result = WORK_GONE;
	undeleted++;
}

static __always_inline int retires(struct work *w)
{
	return w->op == WORK_RETIRE || w->op == WORK_FORCE || w->op == WORK_EVICT;
}

static __always_inline int do_work(struct conn *c, struct work *w, struct conn *out)
{
	u64 now = retires(w) ? now_ns() : 0;
	int result = WORK_GONE;

	bpf_spin_lock(&c->lock);
	if (c->id == w->id) {
		if (w->op == WORK_ACK) {
			result = acknowledge(c, w);
		} else if (retires(w)) {
			result = retire(c, w, now);
		} else if (w->op == WORK_READ) {
			result = read_final(c, out);
		} else if (w->op == WORK_DELETE) {
			result = bury(c);
		}
	}
	bpf_spin_unlock(&c->lock);
	if (w->op == WORK_READ)
		w->end = end_of(out);
	return result;
}

static __always_inline struct work *work_at_hand(struct __sk_buff *skb)
{
	u32 i = work_next;

	asm volatile("" : : "r"(skb)); /* keeps the argument */
	return bpf_map_lookup_elem(&works, &i);
}

static __always_inline struct answer *answer_at_hand(void)
{
	u32 i = work_next;

	return bpf_map_lookup_elem(&answers, &i);
}

/* Folds the slots of a connection that is to be retired, and closes them when it is. */
static __always_inline void work_slots(struct __sk_buff *skb, struct work *w)
{
	struct visit *v = visit_of(VISIT_WORK);

	if (!v)
		return;
	v->key = w->key;
	v->family = w->family;
	v->step = w->result == WORK_DONE ? SLOT_CLOSES : SLOT_STAYS;
	gather_for_work(skb);
}

PART work4(struct __sk_buff *skb)
{
	struct work *w = work_at_hand(skb);
	struct answer *a;
	struct conn4 *c;
	struct conn *conn;

	if (!w)
		return 0;
	a = answer_at_hand();
	if (!a)
		return 0;
	c = bpf_map_lookup_elem(&conns4, &w->key);
	if (!c)
		return 0;
	conn = (struct conn *)(&c->key + 1);
	if (retires(w) && has_slots(conn))
		work_slots(skb, w);
	w->result = do_work(conn, w, (struct conn *)a->conn);
	if (retires(w) && has_slots(conn))
		work_slots(skb, w);
	if (w->op == WORK_DELETE && w->result == WORK_DONE)
		deleted(bpf_map_delete_elem(&conns4, &w->key), conn, w);
	return 0;
}

PART work6(struct __sk_buff *skb)
{
	struct work *w = work_at_hand(skb);
	struct answer *a;
	struct conn6 *c;
	struct conn *conn;

	if (!w)
		return 0;
	a = answer_at_hand();
	if (!a)
		return 0;
	c = bpf_map_lookup_elem(&conns6, &w->key);
	if (!c)
		return 0;
	conn = (struct conn *)(&c->key + 1);
	if (retires(w) && has_slots(conn))
		work_slots(skb, w);
	w->result = do_work(conn, w, (struct conn *)a->conn);
	if (retires(w) && has_slots(conn))
		work_slots(skb, w);
	if (w->op == WORK_DELETE && w->result == WORK_DONE)
		deleted(bpf_map_delete_elem(&conns6, &w->key), conn, w);
	return 0;
}

/* What an item does to the slot that it names. */
static __always_inline u32 step_of(struct work *w)
{
	if (w->op == WORK_CLOSE)
		return SLOT_CLOSES;
	return w->op == WORK_FREE ? SLOT_GOES_FREE : SLOT_STAYS;
}

/* Says which leg of which connection a slot is of. */
static __always_inline void name_leg(struct slot *s, u32 leg, struct visit *v, u16 *port,
				     u16 *zone, u8 *proto)
{
	port[0] = leg ? s->name >> 16 : s->name;
	port[1] = leg ? s->name : s->name >> 16;
	*zone = s->zone;
	*proto = s->name >> 48;
	v->leg = leg;
}

static __always_inline u32 leg_by_name(struct slot *s)
{
	return (u16)s->name > (u16)(s->name >> 16);
}

static __always_inline void find_leg4(struct slot4 *s, struct visit *v)
{
	struct key4 *k = (struct key4 *)&v->key;
	u32 src = s->addrs, dst = s->addrs >> 32;
	u32 leg = src != dst ? src > dst : leg_by_name(&s->slot);

	k->addr[0] = leg ? dst : src;
	k->addr[1] = leg ? src : dst;
	k->cites = 0;
	name_leg(&s->slot, leg, v, k->port, &k->zone, &k->proto);
}

static __always_inline void find_leg6(struct slot6 *s, struct visit *v)
{
	struct key6 *k = &v->key;
	u32 leg = leg_by_name(&s->slot);

	if (s->addrs[0][0] != s->addrs[1][0])
		leg = s->addrs[0][0] > s->addrs[1][0];
	else if (s->addrs[0][1] != s->addrs[1][1])
		leg = s->addrs[0][1] > s->addrs[1][1];
	for (int i = 0; i < 2; i++) {
		k->addr[0][i] = leg ? s->addrs[1][i] : s->addrs[0][i];
		k->addr[1][i] = leg ? s->addrs[0][i] : s->addrs[1][i];
	}
	k->cites = 0;
	name_leg(&s->slot, leg, v, k->port, &k->zone, &k->proto);
}

/* Folds the slot of an item. There is an entry for it: slots are given back before. */
PART work_slot(struct __sk_buff *skb)
{
	struct work *w = work_at_hand(skb);
	struct visit *v = visit_of(VISIT_WORK);
	struct slot4 *s4;
	struct slot6 *s6;

	if (!w || !v)
		return 0;
	v->at = w->id;
	v->family = w->family;
	v->step = step_of(w);
	if (w->family == 4) {
		s4 = bpf_map_lookup_elem(&cache4, &v->at);
		if (s4)
			find_leg4(s4, v);
	} else {
		s6 = bpf_map_lookup_elem(&cache6, &v->at);
		if (s6)
			find_leg6(s6, v);
	}
	visit_for_work(skb);
	w->result = WORK_DONE;
	return 0;
}

/* Does the next item; 0 when there is none. */
PART work_item(struct __sk_buff *skb)
{
	struct work *w = work_at_hand(skb);

	if (!w || work_next >= work_count)
		return 0;
	w->result = WORK_GONE;
	if (w->op >= WORK_FOLD)
		work_slot(skb);
	else if (w->family == 4)
		work4(skb);
	else
		work6(skb);
	work_next++;
	return 1;
}
