//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The program that an XDP chain puts on its hook: it calls the chain's members in their order.
 * Members take the places of functions here (freplace); for places without one, the verifier
 * removes the call, as it knows the constants.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u32 u32;

#define MAX_MEMBERS 10
/* What a function gives that no member has replaced; no verdict of XDP. */
#define VACANT 0x76616361
/* So many verdicts fit a mask; XDP has five. */
#define MASK_BITS 32

volatile const u8 members = 0;
/* The verdicts with which a packet goes on from a member to the next one: 1 << verdict. */
volatile const u32 proceed[MAX_MEMBERS] = {};
/* The verdict where a member has gone missing. */
volatile const u32 broken[MAX_MEMBERS] = {};

/* The kernel lets a member change the packet's size only where the function that it replaces
 * does. It also wants functions to be global, for which the compiler must not know the verdict.
 */
#define MEMBER(n)                                                                              \
	__attribute__((noinline)) int member##n(struct xdp_md *ctx)                            \
	{                                                                                      \
		volatile u32 verdict = VACANT;                                                 \
                                                                                               \
		if (verdict != VACANT)                                                         \
			bpf_xdp_adjust_tail(ctx, 0);                                           \
		return verdict;                                                                \
	}

MEMBER(0)
MEMBER(1)
MEMBER(2)
MEMBER(3)
MEMBER(4)
MEMBER(5)
MEMBER(6)
MEMBER(7)
MEMBER(8)
MEMBER(9)

static __always_inline int goes_on(u32 verdict, int n)
{
	return verdict < MASK_BITS && proceed[n] >> verdict & 1;
}

#define CALL(n)                                                                                \
	do {                                                                                   \
		if (members == n)                                                              \
			return verdict;                                                        \
		verdict = member##n(ctx);                                                      \
		if (verdict == VACANT)                                                         \
			return broken[n];                                                      \
		if (!goes_on(verdict, n))                                                      \
			return verdict;                                                        \
	} while (0)

SEC("xdp")
int weir_chain(struct xdp_md *ctx)
{
	u32 verdict = XDP_PASS;

	CALL(0);
	CALL(1);
	CALL(2);
	CALL(3);
	CALL(4);
	CALL(5);
	CALL(6);
	CALL(7);
	CALL(8);
	CALL(9);
	return verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
