/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The list of hooks that saw a leg beside its owner: README section 4. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "conn.h"

static __always_inline void list_hook(u16 *hooks, u16 hook)
{
	for (int i = 0; i < OTHER_HOOKS; i++) {
		if (hooks[i] == hook)
			return;
		if (!hooks[i]) {
			hooks[i] = hook;
			return;
		}
	}
}
