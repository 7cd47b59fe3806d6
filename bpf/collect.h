/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Garbage collection's side of an entry: README sections 6 and 9. User space fills `works`,
 * runs the program once for each item (the repeat count of a test run), and reads the answers.
 */
#pragma once

#include "track.h"

static __always_inline int acknowledge(struct conn *c, struct conn *mark)
{
	if (c->life == LIFE_DEAD || c->life == LIFE_BORN)
		return WORK_GONE;
	c->reported[0] = mark->reported[0];
	c->reported[1] = mark->reported[1];
	c->reported_at = mark->reported_at;
	/* The record that is being handed over was measured from the mark before; should it
	 * find no room, the entry stays with this one.
	 */
	return c->life == LIFE_ENDING ? WORK_GONE : WORK_DONE;
}

static __always_inline int retire(struct conn *c, struct work *w, u64 now)
{
	if (c->life == LIFE_RETIRED)
		return WORK_DONE; /* by a sweep that did not come to its end */
	if (c->life != LIFE_LIVE || (!w->force && !expired(c, now)))
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

static __always_inline int do_work(struct conn *c, struct work *w)
{
	struct conn *copy = (struct conn *)w->conn;
	u64 now = now_ns();
	int result = WORK_GONE;

	bpf_spin_lock(&c->lock);
	if (c->id == w->id) {
		if (w->op == WORK_ACK)
			result = acknowledge(c, copy);
		else if (w->op == WORK_RETIRE)
			result = retire(c, w, now);
		else if (w->op == WORK_READ)
			result = read_final(c, copy);
		else if (w->op == WORK_DELETE)
			result = bury(c);
	}
	bpf_spin_unlock(&c->lock);
	w->end = end_of(copy);
	return result;
}

static __always_inline void work_item(struct work *w)
{
	w->result = WORK_GONE;
	if (w->family == 4) {
		struct conn4 *c = bpf_map_lookup_elem(&conns4, &w->key);

		if (c)
			w->result = do_work((struct conn *)(&c->key + 1), w);
		if (w->op == WORK_DELETE && w->result == WORK_DONE)
			bpf_map_delete_elem(&conns4, &w->key);
	} else {
		struct conn6 *c = bpf_map_lookup_elem(&conns6, &w->key);

		if (c)
			w->result = do_work((struct conn *)(&c->key + 1), w);
		if (w->op == WORK_DELETE && w->result == WORK_DONE)
			bpf_map_delete_elem(&conns6, &w->key);
	}
}
