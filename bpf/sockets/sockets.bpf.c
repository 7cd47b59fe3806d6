//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Learns which control groups the sockets are of that send packets: README.md. */
#include "../beside/beside.h"

/* Of Linux' linux/net.h. */
#define SOCK_STREAM 1
#define SOCK_DGRAM  2

/* A direction of a connection, as its packets have it at the hook. */
struct tuple {
	u64 src[2]; /* an IPv4 address is in the first four bytes */
	u64 dst[2];
	u16 sport; /* network order */
	u16 dport;
	u16 zone;
	u8 family; /* 4 or 6 */
	u8 proto;
};

/* Who sends it. Its packets are mostly sent one after the other: plain stores do, and what two
 * CPUs store at once is of one socket.
 */
struct sender {
	u64 group;  /* id of its socket's control group */
	u64 before; /* of the socket that had the tuple before; 0: none */
	u64 since;  /* ns: when the first packet of `group` was seen */
};

/* The kernel forgets who was not asked for the longest. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct tuple);
	__type(value, struct sender);
	__uint(max_entries, 16384); /* set by the loader */
} senders SEC(".maps");

/* The groups in it, so that user space can find out about new ones while they are there. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, u8);
	__uint(max_entries, 4096);
} groups SEC(".maps");

/* What found no room. */
u64 lost = 0;

/* What is asked of the socket that has sent a packet. */
struct from {
	u64 group; /* 0: there is no socket, as of what comes from outside or is forwarded */
	u32 type;
	u16 port; /* network order */
};

static __always_inline void read_socket(struct __sk_buff *skb, struct from *f)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	f->type = sk->type;
	f->port = bpf_htons(sk->src_port);
	f->group = bpf_skb_cgroup_id(skb);
}

/* Whether the packet is of the socket's own exchange. What the kernel sends for a connection
 * that has no socket any more comes from a raw one of its own, and a tunnel's packet from that
 * of what it carries.
 */
static __always_inline int is_own(struct from *f, u8 proto, u16 port)
{
	return f->port == port && ((proto == IPPROTO_TCP && f->type == SOCK_STREAM) ||
				   (proto == IPPROTO_UDP && f->type == SOCK_DGRAM));
}

static __always_inline void learn(struct tuple *k, u64 group)
{
	struct sender *old = bpf_map_lookup_elem(&senders, k);
	struct sender now = {.group = group};
	u8 there = 1;

	if (old && old->group == group)
		return;
	now.since = now_ns();
	if (old)
		now.before = old->group;
	if (bpf_map_update_elem(&senders, k, &now, BPF_ANY) ||
	    bpf_map_update_elem(&groups, &group, &there, BPF_ANY))
		__sync_fetch_and_add(&lost, 1);
}

SEC("tc")
int weir_sockets(struct __sk_buff *skb)
{
	struct transport *t = transport_at_hand();
	struct place *p = place_of(skb);
	struct from f = {};
	struct tuple k = {};
	u16 ports[2];

	if (!p || !p->on || !t)
		return NEXT_PROGRAM;
	read_socket(skb, &f);
	if (!f.group || find_transport(skb) || t->left < sizeof(ports) ||
	    load(skb, t->at, ports, sizeof(ports)) || !is_own(&f, t->proto, ports[0]))
		return NEXT_PROGRAM;
	for (int i = 0; i < 2; i++) {
		k.src[i] = t->src[i];
		k.dst[i] = t->dst[i];
	}
	k.sport = ports[0];
	k.dport = ports[1];
	k.zone = p->zone;
	k.family = t->family;
	k.proto = t->proto;
	learn(&k, f.group);
	return NEXT_PROGRAM;
}
