/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the tracing programs have in common: the key they count by, and the two tables that they
 * count in by turns.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "kernel.h"

struct tuple {
	u64 src[2]; /* an IPv4 address is in the first four bytes */
	u64 dst[2];
	u32 netns;  /* inode of the network namespace, 0 when it is not known */
	u32 reason; /* of a drop, else 0 */
	u16 sport;  /* network order; 0 when the protocol has none */
	u16 dport;
	u8 family; /* 4 or 6 */
	u8 proto;
	u8 pad[2];
};

/* The table in which the programs count, 0 or 1. User space changes it, waits until no program
 * runs any more that may have read the old value, and then has the other table to itself.
 */
volatile u8 turn = 0;

/* What found no room in the table: packets, or samples. */
u64 lost = 0;

char _license[] SEC("license") = "Dual BSD/GPL";
