//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A member for tests of chains. It writes down that it ran, for each packet that carries a
 * number, and gives the verdict that it was told to give.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;

/* An EtherType for local experiments (IEEE 802, annex 4). */
#define TYPE_NUMBERED 0x88b5

#define MAX_STEPS	70
#define MAX_PACKETS	65536
#define MAX_GENERATIONS 1024

/* A packet of a test. */
struct numbered {
	u8 destination[6];
	u8 source[6];
	__be16 type;
	__be32 number;
} __attribute__((packed));

struct step {
	u16 member;
	u16 generation;
};

/* What members did to the packet of a number, in their order. */
struct trace {
	u32 steps;
	struct step step[MAX_STEPS];
};

/* Shared by all members of a chain. A member writes while its CPU handles the packet; user
 * space reads when the packet has gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_PACKETS);
	__type(key, u32);
	__type(value, struct trace);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} traces SEC(".maps");

/* A packet on its way through a chain. A CPU handles one at a time, and all of it. */
struct passage {
	u32 number;
	u16 generation;
	u16 next;    /* position of the member that must come; 0: none, the packet has left */
	__u64 wrong; /* packets that met another member than that */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct passage);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} passages SEC(".maps");

/* Packets that met a generation, whole, by its number. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_GENERATIONS);
	__type(key, u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} whole SEC(".maps");

/* A member's own: how many packets it saw, numbered or not. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, __u64);
} seen SEC(".maps");

volatile const u16 member = 0;
volatile const u16 generation = 0;
volatile const int verdict = 0;
volatile const u16 position = 0;
volatile const u16 length = 0; /* of the chain */

static __always_inline void count(void)
{
	u32 key = 0;
	__u64 *n = bpf_map_lookup_elem(&seen, &key);

	if (n)
		*n += 1;
}

static __always_inline int trace(__be32 number)
{
	u32 key = bpf_ntohl(number);
	struct trace *t = bpf_map_lookup_elem(&traces, &key);
	u32 i;

	if (!t)
		return verdict;
	i = t->steps;
	if (i < MAX_STEPS) {
		t->step[i].member = member;
		t->step[i].generation = generation;
	}
	t->steps = i + 1;
	return verdict;
}

/* Checks what trace() writes down, without user space: packets can come without a pause. */
static __always_inline int check(__be32 number)
{
	u32 zero = 0, key = generation;
	struct passage *p = bpf_map_lookup_elem(&passages, &zero);
	__u64 *n = bpf_map_lookup_elem(&whole, &key);

	if (!p || !n)
		return verdict;
	if (position == 0) {
		/* The packet before went all the way, and met no newer generation. */
		if (p->next != 0 || generation < p->generation)
			p->wrong++;
		p->number = number;
		p->generation = generation;
	} else if (p->next != position || p->number != number || p->generation != generation) {
		p->wrong++;
	}
	p->next = position + 1;
	if (p->next == length) {
		p->next = 0;
		*n += 1;
	}
	return verdict;
}

SEC("tc")
int tc_member(struct __sk_buff *skb)
{
	struct numbered p;

	count();
	if (bpf_skb_load_bytes(skb, 0, &p, sizeof(p)) || p.type != bpf_htons(TYPE_NUMBERED))
		return TC_ACT_UNSPEC;
	return trace(p.number);
}

SEC("xdp")
int xdp_member(struct xdp_md *ctx)
{
	struct numbered *p = (void *)(long)ctx->data;

	count();
	if ((void *)(p + 1) > (void *)(long)ctx->data_end ||
	    p->type != bpf_htons(TYPE_NUMBERED))
		return XDP_PASS;
	return trace(p->number);
}

SEC("tc")
int tc_checked(struct __sk_buff *skb)
{
	struct numbered p;

	if (bpf_skb_load_bytes(skb, 0, &p, sizeof(p)) || p.type != bpf_htons(TYPE_NUMBERED))
		return TC_ACT_UNSPEC;
	return check(p.number);
}

SEC("xdp")
int xdp_checked(struct xdp_md *ctx)
{
	struct numbered *p = (void *)(long)ctx->data;

	if ((void *)(p + 1) > (void *)(long)ctx->data_end ||
	    p->type != bpf_htons(TYPE_NUMBERED))
		return XDP_PASS;
	return check(p->number);
}

/* Not declared as the functions of a dispatcher are. */
SEC("xdp")
enum xdp_action xdp_enum(struct xdp_md *ctx)
{
	count();
	return XDP_PASS;
}

/* The verifier refuses it: it reads beyond the packet. */
SEC("tc")
int tc_broken(struct __sk_buff *skb)
{
	struct numbered *p = (void *)(long)skb->data;

	return p->number;
}

SEC("xdp")
int xdp_broken(struct xdp_md *ctx)
{
	struct numbered *p = (void *)(long)ctx->data;

	return p->number;
}

char _license[] SEC("license") = "Dual BSD/GPL";
