//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Reads the smoothed round-trip time of TCP sockets. */
#include "trace.h"

/* Of Linux' linux/socket.h. */
#define AF_INET	 2
#define AF_INET6 10

#define PROTO_TCP 6

/* Microseconds. */
struct round_trip {
	u32 min;
	u32 last;
	u32 max;
	u32 samples;
};

/* Written by the program, which the kernel calls with the socket's lock held: there is one
 * writer per entry. User space reads and empties the table whose turn it is not.
 */
#define RTTS                                                                                   \
	{                                                                                      \
		__uint(type, BPF_MAP_TYPE_HASH);                                               \
		__type(key, struct tuple);                                                     \
		__type(value, struct round_trip);                                              \
		__uint(max_entries, 16384); /* set by the loader */                            \
	}

struct RTTS rtts0 SEC(".maps");
struct RTTS rtts1 SEC(".maps");

static __always_inline int read_socket(struct sock *sk, struct tuple *t)
{
	t->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	t->sport = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
	t->dport = BPF_CORE_READ(sk, __sk_common.skc_dport);
	t->proto = PROTO_TCP;
	switch (BPF_CORE_READ(sk, __sk_common.skc_family)) {
	case AF_INET:
		t->family = 4;
		t->src[0] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		t->dst[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		return 0;
	case AF_INET6:
		t->family = 6;
		BPF_CORE_READ_INTO(&t->src, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&t->dst, sk, __sk_common.skc_v6_daddr);
		return 0;
	}
	return -1;
}

static __always_inline void sample(void *rtts, struct tuple *t, u32 us)
{
	struct round_trip *r = bpf_map_lookup_elem(rtts, t);

	if (!r) {
		struct round_trip first = {.min = us, .last = us, .max = us, .samples = 1};

		if (bpf_map_update_elem(rtts, t, &first, BPF_ANY))
			__sync_fetch_and_add(&lost, 1);
		return;
	}
	r->last = us;
	r->samples++;
	if (us < r->min)
		r->min = us;
	if (us > r->max)
		r->max = us;
}

/* The tracepoint stands at the beginning of tcp_rcv_established, so it tells what the socket
 * knew before the packet at hand. It has been there since 4.16.
 */
SEC("raw_tracepoint/tcp_probe")
int weir_rtt(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	u32 us = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us) >> 3;
	struct tuple t = {};

	if (!us || read_socket(sk, &t))
		return 0;
	if (turn)
		sample(&rtts1, &t, us);
	else
		sample(&rtts0, &t, us);
	return 0;
}
