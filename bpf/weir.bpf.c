//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* weir's programs: the packet path behind every hook, and garbage collection's side. */
#include "collect.h"
#include "filter.h"
#include "fragment.h"
#include "quick.h"
#include "tunnel.h"

#define NEXT_PROGRAM (-1) /* TCX_NEXT, TC_ACT_UNSPEC */

static __always_inline void prepare(struct __sk_buff *skb, struct packet *p, u32 number,
				    struct hook *h)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->hook = number;
	p->zone = h->zone;
	p->l3 = h->flags & HOOK_L3;
	p->left = skb->len;
	p->tags = skb->vlan_present;
	p->gso = skb->gso_size > 0;
}

/* How many packets a GSO packet stands for. */
static __always_inline u32 segments(struct __sk_buff *skb, u32 headers)
{
	u32 size = skb->gso_size;

	if (skb->gso_segs)
		return skb->gso_segs;
	return size && skb->len > headers ? (skb->len - headers + size - 1) / size : 1;
}

static __always_inline void measure(struct __sk_buff *skb, struct packet *p)
{
	u32 tagged = skb->vlan_present * 4;

	p->packets = p->gso ? segments(skb, p->headers) : 1;
	p->bytes = skb->len - p->around + tagged +
		   (u64)(p->packets - 1) * (p->headers - p->around + tagged);
}

static __always_inline int parse(struct __sk_buff *skb, struct packet *p, u32 number,
				 struct hook *h)
{
	int result;

	prepare(skb, p, number, h);
	result = parse_frame(skb);
	if (tunnels && result == PARSED)
		result = parse_inside(skb);
	return result;
}

/* Parses what is linear. A packet that is cut off because the rest is not linear is made so and
 * parsed again.
 */
static __always_inline int classify(struct __sk_buff *skb, struct packet *p, u32 number,
				    struct hook *h)
{
	int result = parse(skb, p, number, h);
	u32 want = skb->len < MAX_OFFSET ? skb->len : MAX_OFFSET;

	if (FORGET(p->cut) && !bpf_skb_pull_data(skb, want))
		result = parse(skb, p, number, h);
	measure(skb, p);
	p->now = now_ns();
	if (result == PARSED && p->fragment)
		result = put_together(skb);
	return result;
}

/* The packet path: the short way, or else the long one. */
SEC("tc")
int weir_packet(struct __sk_buff *skb)
{
	u32 number = skb->cb[4];
	struct hook *h = bpf_map_lookup_elem(&hooks, &number);
	struct packet p = {}; /* of which the compiler leaves a few registers */

	if (!h || !(h->flags & HOOK_ON) || quick(skb, &p, number, h) == LONG_WAY)
		bpf_tail_call_static(skb, &jump, PROGRAM_PARSE);
	return NEXT_PROGRAM;
}

/* The long way has three programs; the packet at hand stays in scratch between them. */
SEC("tc")
int weir_parse(struct __sk_buff *skb)
{
	u32 number = skb->cb[4];
	struct hook *h = bpf_map_lookup_elem(&hooks, &number);
	struct packet *p = packet_at_hand(skb);
	int result = LOST_NO_HOOK;

	if (!p)
		return NEXT_PROGRAM;
	if (h && h->flags & HOOK_ON) {
		result = classify(skb, p, number, h);
	} else {
		number = 0;
		p->packets = 1;
		p->bytes = skb->len;
	}
	if (result != PARSED)
		tally(number, p, result);
	else if (gates & GATE_FILTER)
		bpf_tail_call_static(skb, &jump, PROGRAM_FILTER);
	else
		bpf_tail_call_static(skb, &jump, PROGRAM_TRACK);
	return NEXT_PROGRAM;
}

SEC("tc")
int weir_filter(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);

	if (!s)
		return NEXT_PROGRAM;
	if (rejected(skb, s))
		tally(s->packet.hook, &s->packet, LEFT_OUT_FILTER);
	else
		bpf_tail_call_static(skb, &jump, PROGRAM_TRACK);
	return NEXT_PROGRAM;
}

SEC("tc")
int weir_track(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);

	if (p)
		tally(p->hook, p, track(skb));
	return NEXT_PROGRAM;
}

SEC("tc")
int weir_collect(struct __sk_buff *skb)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < WORK_RUN; i++)
		if (!work_item(skb))
			break;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";

/* Makes the compiler describe types that user space reads and no map declares. */
const struct event *unused_event __attribute__((unused));
const enum lost *unused_lost __attribute__((unused));
const enum program *unused_program __attribute__((unused));
