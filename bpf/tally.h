/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The counters of hooks: README section 2. */
#pragma once

#include "state.h"

static __always_inline void count(struct count *c, struct packet *p)
{
	c->packets += p->packets;
	c->bytes += p->bytes;
}

/* Counts the packet at its hook, by what became of it, which it returns. One that is to go the
 * long way is not counted yet.
 */
static __always_inline int tally(u32 hook, struct packet *p, int result)
{
	struct hook_stats *s;

	if (result == LONG_WAY)
		return result;
	s = bpf_map_lookup_elem(&stats, &hook);
	if (!s)
		return result;
	count(&s->seen, p);
	if (result == ACCOUNTED)
		count(&s->accounted, p);
	else if (result == OBSERVED)
		count(&s->observed, p);
	else if (result >= 0 && result < LOST_REASONS)
		count(&s->lost[result], p);
	return result;
}
