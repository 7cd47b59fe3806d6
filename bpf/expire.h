/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* When a connection has expired, README section 5. `lifetime_ns` is declared before. */
#pragma once

#include "conn.h"

static __always_inline int idle_too_long(struct conn *c, u64 last, u64 now)
{
	return (s64)(now - last) > (s64)lifetime_ns[c->state & (STATE_SLOTS - 1)];
}

static __always_inline int expired(struct conn *c, u64 now)
{
	return idle_too_long(c, c->leg[0].last, now) && idle_too_long(c, c->leg[1].last, now);
}
