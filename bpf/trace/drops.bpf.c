//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Counts the packets that the kernel drops. */
#include "trace.h"

/* The longest chain of IPv6 extension headers that is followed. */
#define MAX_EXTENSIONS 8

/* Protocol numbers of IANA. */
#define PROTO_TCP     6
#define PROTO_UDP     17
#define PROTO_DCCP    33
#define PROTO_SCTP    132
#define PROTO_UDPLITE 136

#define HEADER_HOPS	    0
#define HEADER_ROUTING	    43
#define HEADER_FRAGMENT	    44
#define HEADER_AUTH	    51
#define HEADER_DESTINATIONS 60
#define HEADER_MOBILITY	    135

#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd

/* Inodes of namespaces begin here: the initial namespaces have fixed ones right below
 * PROC_DYNAMIC_FIRST (0xf0000000), all others lie above it.
 */
#define FIRST_INODE 0xefffff00

struct drop {
	u64 packets;
	u64 first; /* ns of the monotonic clock */
	u64 last;
};

/* Written by the program, atomically. User space reads and empties the table whose turn it is
 * not.
 */
#define DROPS                                                                                  \
	{                                                                                      \
		__uint(type, BPF_MAP_TYPE_HASH);                                               \
		__type(key, struct tuple);                                                     \
		__type(value, struct drop);                                                    \
		__uint(max_entries, 16384); /* set by the loader */                            \
	}

struct DROPS drops0 SEC(".maps");
struct DROPS drops1 SEC(".maps");

/* Set by the loader. Since 5.17 the tracepoint has the reason as its third argument; two of its
 * values say that the packet was no drop, where the kernel has them.
 */
volatile const u8 has_reason = 0;
volatile const u32 no_drop[2] = {};

/* The linear part of a packet, with the offset of what is read next. */
struct cursor {
	unsigned char *head;
	u32 at;
	u32 end;
};

static __always_inline int take(struct cursor *c, void *to, u32 size)
{
	if (c->at + size > c->end)
		return -1;
	return bpf_probe_read_kernel(to, size, c->head + c->at);
}

/* Passes IPv6 extension headers over. Returns 1 when a transport header follows. */
static __always_inline int pass_extensions(struct cursor *c, struct tuple *t)
{
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct ext e = {};
		u32 size;

		switch (t->proto) {
		case HEADER_HOPS:
		case HEADER_ROUTING:
		case HEADER_FRAGMENT:
		case HEADER_AUTH:
		case HEADER_DESTINATIONS:
		case HEADER_MOBILITY:
			break;
		default:
			return 1;
		}
		if (take(c, &e, sizeof(e)))
			return 0;
		size = (e.len + 1) * 8;
		if (t->proto == HEADER_AUTH)
			size = (e.len + 2) * 4;
		if (t->proto == HEADER_FRAGMENT)
			size = 8;
		int later = t->proto == HEADER_FRAGMENT && e.fragment & bpf_htons(0xfff8);
		t->proto = e.next;
		if (later)
			return 0;
		c->at += size;
	}
	return 0;
}

/* Read the IP header. Returns below 0 when there is none, 1 when a transport header follows. */
static __always_inline int read_ipv4(struct cursor *c, struct tuple *t)
{
	struct ipv4 ip;

	if (take(c, &ip, sizeof(ip)) || ip.ihl_version >> 4 != 4 || (ip.ihl_version & 15) < 5)
		return -1;
	t->family = 4;
	t->proto = ip.protocol;
	t->src[0] = ip.src;
	t->dst[0] = ip.dst;
	c->at += (ip.ihl_version & 15) * 4;
	return !(ip.fragment & bpf_htons(0x1fff));
}

static __always_inline int read_ipv6(struct cursor *c, struct tuple *t)
{
	struct ipv6 ip;

	if (take(c, &ip, sizeof(ip)) || bpf_ntohl(ip.version) >> 28 != 6)
		return -1;
	t->family = 6;
	t->proto = ip.next;
	__builtin_memcpy(t->src, ip.src, sizeof(t->src));
	__builtin_memcpy(t->dst, ip.dst, sizeof(t->dst));
	c->at += sizeof(ip);
	return pass_extensions(c, t);
}

static __always_inline int has_ports(u8 proto)
{
	return proto == PROTO_TCP || proto == PROTO_UDP || proto == PROTO_SCTP ||
	       proto == PROTO_DCCP || proto == PROTO_UDPLITE;
}

/* Returns 0 when the packet is of IP, with what could be read of it in the tuple. */
static __always_inline int read_packet(struct sk_buff *skb, struct tuple *t)
{
	struct cursor c = {
		.head = BPF_CORE_READ(skb, head),
		.at = BPF_CORE_READ(skb, network_header),
		.end = BPF_CORE_READ(skb, tail),
	};
	u16 ports[2];
	int more = -1;

	switch (bpf_ntohs(BPF_CORE_READ(skb, protocol))) {
	case TYPE_IPV4:
		more = read_ipv4(&c, t);
		break;
	case TYPE_IPV6:
		more = read_ipv6(&c, t);
	}
	if (more < 0)
		return -1;
	if (more && has_ports(t->proto) && !take(&c, ports, sizeof(ports))) {
		t->sport = ports[0];
		t->dport = ports[1];
	}
	return 0;
}

/* The namespace of the packet's device, else of its socket: a packet may carry the socket of
 * its sender through another namespace. While a socket queues a packet, the kernel uses the
 * device's place for other things; what is found then is no inode.
 */
static __always_inline u32 namespace_of(struct sk_buff *skb)
{
	u32 inode = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);

	if (inode < FIRST_INODE)
		inode = BPF_CORE_READ(skb, sk, __sk_common.skc_net.net, ns.inum);
	return inode < FIRST_INODE ? 0 : inode;
}

/* As everywhere in weir, a packet that stands for several counts as these. */
static __always_inline u64 segments(struct sk_buff *skb)
{
	struct skb_shared_info *info;
	u16 n;

	info = (void *)(BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, end));
	n = BPF_CORE_READ(info, gso_segs);
	return n ? n : 1;
}

static __always_inline void count(void *drops, struct tuple *t, u64 packets)
{
	u64 now = bpf_ktime_get_ns();
	struct drop *d = bpf_map_lookup_elem(drops, t);

	if (!d) {
		struct drop none = {.first = now};

		/* It fails also when another CPU was faster. */
		bpf_map_update_elem(drops, t, &none, BPF_NOEXIST);
		d = bpf_map_lookup_elem(drops, t);
	}
	if (!d) {
		__sync_fetch_and_add(&lost, packets);
		return;
	}
	__sync_fetch_and_add(&d->packets, packets);
	d->last = now; /* of drops at the same time, any */
}

SEC("raw_tracepoint/kfree_skb")
int weir_drops(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (void *)ctx->args[0];
	struct tuple t = {};

	if (has_reason) {
		t.reason = ctx->args[2];
		if (t.reason == no_drop[0] || t.reason == no_drop[1])
			return 0;
	}
	if (read_packet(skb, &t))
		return 0;
	t.netns = namespace_of(skb);
	if (turn)
		count(&drops1, &t, segments(skb));
	else
		count(&drops0, &t, segments(skb));
	return 0;
}
