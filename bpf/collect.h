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

static __always_inline int retire(struct conn *c, struct work *w, u64 now)
{
	if (c->life == LIFE_RETIRED)
		return WORK_DONE; /* by a sweep that did not come to its end */
	if (c->life != LIFE_LIVE || (w->op != WORK_FORCE && !expired(c, now)))
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

/* Whether the entry is the one that the item means: of its key, or also of its flow id, which
 * implies the key. Family is a constant at each call.
 */
static __always_inline int meant(struct conn *c, struct work *w, int family)
{
	if (w->op != WORK_LOOK)
		return c->id == w->id;
	if (family == 4)
		return same4((struct key4 *)c - 1, (struct key4 *)&w->key);
	return same6((struct key6 *)c - 1, &w->key);
}

static __always_inline int do_work(struct conn *c, struct work *w, struct conn *out, int family)
{
	u64 now = now_ns();
	int result = WORK_GONE;

	bpf_spin_lock(&c->lock);
	if (meant(c, w, family)) {
		if (w->op == WORK_ACK) {
			result = acknowledge(c, w);
		} else if (w->op == WORK_RETIRE || w->op == WORK_FORCE) {
			result = retire(c, w, now);
		} else if (w->op == WORK_READ) {
			result = read_final(c, out);
		} else if (w->op == WORK_DELETE) {
			result = bury(c);
		} else if (w->op == WORK_LOOK) {
			copy_out(out, c);
			result = WORK_DONE;
		}
	}
	bpf_spin_unlock(&c->lock);
	if (w->op == WORK_READ)
		w->end = end_of(out);
	return result;
}

static __always_inline void work4(struct work *w, struct conn *out)
{
	struct conn4 *c = bpf_map_lookup_elem(&conns4, &w->key);

	if (c)
		w->result = do_work((struct conn *)(&c->key + 1), w, out, 4);
	if (w->op == WORK_DELETE && w->result == WORK_DONE)
		bpf_map_delete_elem(&conns4, &w->key);
}

static __always_inline void work6(struct work *w, struct conn *out)
{
	struct conn6 *c = bpf_map_lookup_elem(&conns6, &w->key);

	if (c)
		w->result = do_work((struct conn *)(&c->key + 1), w, out, 6);
	if (w->op == WORK_DELETE && w->result == WORK_DONE)
		bpf_map_delete_elem(&conns6, &w->key);
}

/* Does the next item; 0 when there is none. */
PART work_item(struct __sk_buff *skb)
{
	u32 i = work_next;
	struct work *w = bpf_map_lookup_elem(&works, &i);
	struct answer *a = bpf_map_lookup_elem(&answers, &i);

	asm volatile("" : : "r"(skb)); /* keeps the argument */
	if (!w || !a || i >= work_count)
		return 0;
	work_next = i + 1;
	w->result = WORK_GONE;
	if (w->family == 4)
		work4(w, (struct conn *)a->conn);
	else
		work6(w, (struct conn *)a->conn);
	return 1;
}

/* Whether a connection that goes on is to be reported. The Go side is Pass.due. */
static __always_inline int due(struct conn *c, u64 now)
{
	if (c->leg[0].packets == c->reported[0].packets &&
	    c->leg[1].packets == c->reported[1].packets)
		return 0;
	return (u32)(now >> TICK_SHIFT) - c->reported_at >= scan_active;
}

struct scan {
	u64 now;
	u32 found;
};

/* Lists an entry that the sweep has something to do with. The lock is not taken: what is missed
 * now shows the next time, what is found is looked at again. Family is a constant at each call.
 */
static __always_inline long scan_entry(struct scan *s, void *key, struct conn *c, int family)
{
	u64 gone = expired(c, s->now);
	u32 i = s->found;
	struct finding *f;

	if (!gone && !scan_all && !due(c, s->now))
		return 0;
	f = bpf_map_lookup_elem(&found, &i);
	if (!f)
		return 1;
	if (family == 4)
		*(struct key4 *)&f->key = *(struct key4 *)key;
	else
		f->key = *(struct key6 *)key;
	f->id = c->id;
	f->expired = gone;
	s->found = i + 1;
	return 0;
}

static long scan4(void *map, struct key4 *key, struct conn4 *c, struct scan *s)
{
	return scan_entry(s, key, (struct conn *)(&c->key + 1), 4);
}

static long scan6(void *map, struct key6 *key, struct conn6 *c, struct scan *s)
{
	return scan_entry(s, key, (struct conn *)(&c->key + 1), 6);
}

/* Go through a family's table. They take no lock of the table, so no packet is kept from
 * opening a connection. One program each: the compiler would join two calls in one, whose map
 * the verifier does not know.
 */
static __always_inline void scan_table4(void)
{
	struct scan s = {.now = scan_now};

	bpf_for_each_map_elem(&conns4, scan4, &s, 0);
	scan_found = s.found;
}

static __always_inline void scan_table6(void)
{
	struct scan s = {.now = scan_now};

	bpf_for_each_map_elem(&conns6, scan6, &s, 0);
	scan_found = s.found;
}
