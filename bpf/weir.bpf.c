//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* weir's programs: the packet path behind every hook, and garbage collection's side. */
#include "collect.h"

#define NEXT_PROGRAM (-1) /* TCX_NEXT, TC_ACT_UNSPEC */

static __always_inline void count(struct count *c, struct packet *p)
{
	c->packets += p->packets;
	c->bytes += p->bytes;
}

/* Not static: the verifier walks such a function once, however often it is called. Before 5.13
 * it takes nothing but the context.
 */
__attribute__((noinline)) int parse(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);

	return s ? parse_packet(skb, &s->packet) : LOST_NO_HOOK;
}

static __always_inline int classify(struct __sk_buff *skb)
{
	int result = parse(skb);
	u32 linear = skb->data_end - skb->data;
	u32 want = skb->len < MAX_OFFSET ? skb->len : MAX_OFFSET;

	if (result == PARSED || linear >= want || bpf_skb_pull_data(skb, want))
		return result;
	return parse(skb);
}

static __always_inline void tally(u32 hook, struct packet *p, int result)
{
	struct hook_stats *s = bpf_map_lookup_elem(&stats, &hook);

	if (!s)
		return;
	count(&s->seen, p);
	if (result == ACCOUNTED)
		count(&s->accounted, p);
	else if (result == OBSERVED)
		count(&s->observed, p);
	else if (result >= 0 && result < LOST_REASONS)
		count(&s->lost[result], p);
}

SEC("tc")
int weir_packet(struct __sk_buff *skb)
{
	u32 zero = 0, number = skb->cb[4];
	struct hook *h = bpf_map_lookup_elem(&hooks, &number);
	struct scratch *s = bpf_map_lookup_elem(&scratch, &zero);
	struct packet *p;
	int result;

	if (!s)
		return NEXT_PROGRAM;
	p = &s->packet;
	__builtin_memset(p, 0, sizeof(*p));
	if (!h || !(h->flags & HOOK_ON)) {
		p->packets = 1;
		p->bytes = skb->len;
		tally(0, p, LOST_NO_HOOK);
		return NEXT_PROGRAM;
	}
	p->hook = number;
	p->zone = h->zone;
	p->l3 = h->flags & HOOK_L3;
	result = classify(skb);
	if (result == PARSED) {
		p->now = now_ns();
		result = p->family == 4 ? track4(p) : track6(p);
	}
	tally(number, p, result);
	return NEXT_PROGRAM;
}

SEC("tc")
int weir_collect(struct __sk_buff *skb)
{
	u32 i = work_next;
	struct work *w = bpf_map_lookup_elem(&works, &i);

	if (w && i < work_count) {
		work_next = i + 1;
		work_item(w);
	}
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";

/* Makes the compiler describe types that user space reads and no map declares. */
const struct event *unused_event __attribute__((unused));
const enum lost *unused_lost __attribute__((unused));
