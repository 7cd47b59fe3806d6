/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the programs beside the packet path have in common: hooks, time, and the way from a
 * frame to its transport header, as section 1 of ../latency/README.md says.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "../packet.h"

#define NEXT_PROGRAM (-1) /* TCX_NEXT, TC_ACT_UNSPEC */

#define VLAN_TAGS     2
#define ETH_P_QINQ    0x88a8
#define IPV6_EXT_MAX  8
#define NEXT_AUTH     51
#define NEXT_FRAGMENT 44
#define NEXT_NONE     59
#define IP_OFFSET     0x1fff /* bits of the fragment field */
#define IPV6_OFFSET   0xfff8

/* A hook, by the number that the packet path gives it. Written by user space. */
struct place {
	u16 zone;
	u8 on;
	u8 l3; /* frames begin with the IP header */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct place);
	__uint(max_entries, MAX_HOOKS);
} places SEC(".maps");

/* The stub of a hook puts its number into skb->cb[4] and jumps to the one program here. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, 1);
} jump SEC(".maps");

/* Fixed when the program is loaded. */
volatile const u8 is_virtual = 0;

/* The virtual clock, in ns. User space writes. */
volatile u64 virtual_now = 1;

static __always_inline u64 now_ns(void)
{
	return is_virtual ? virtual_now : bpf_ktime_get_ns();
}

/* Where the transport header of a packet is, and whose it is. */
struct transport {
	u64 src[2]; /* an IPv4 address is in the first four bytes */
	u64 dst[2];
	u32 at;	  /* offset in the frame */
	u32 left; /* bytes from there on, by the packet's own account */
	u8 family;
	u8 proto;
	u8 gso;
};

/* The packet at hand lies in per-CPU memory rather than on the stack, and its parts are read by
 * functions that are not static: the verifier does not follow values through memory, and walks
 * such a function once. Before 5.13 they take nothing but the context.
 */
#define PART __attribute__((noinline)) int

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct transport);
	__uint(max_entries, 1);
} transport SEC(".maps");

static __always_inline struct transport *transport_at_hand(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&transport, &zero);
}

static __always_inline struct place *place_of(struct __sk_buff *skb)
{
	u32 number = skb->cb[4];

	return bpf_map_lookup_elem(&places, &number);
}

static __always_inline int load(struct __sk_buff *skb, u32 at, void *to, u32 size)
{
	return bpf_skb_load_bytes(skb, at, to, size);
}

/* Finds the EtherType behind the link header; 0 when there is none to read. */
static __always_inline __be16 read_link(struct __sk_buff *skb, struct transport *t)
{
	u32 tags = skb->vlan_present;
	__be16 type = 0;

	t->at = ETH_HLEN;
	if (load(skb, ETH_HLEN - 2, &type, sizeof(type)))
		return 0;
	for (int i = 0; i <= VLAN_TAGS; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_QINQ))
			return type;
		if (++tags > VLAN_TAGS || load(skb, t->at + 2, &type, sizeof(type)))
			return 0;
		t->at += 4;
	}
	return 0;
}

static __always_inline __be16 type_by_version(struct __sk_buff *skb, struct transport *t)
{
	u8 first = 0;

	t->at = 0;
	if (load(skb, 0, &first, sizeof(first)))
		return 0;
	if (first >> 4 == 4)
		return bpf_htons(ETH_P_IP);
	return first >> 4 == 6 ? bpf_htons(ETH_P_IPV6) : 0;
}

static __always_inline int read_ipv4(struct __sk_buff *skb, struct transport *t)
{
	u32 length, total;
	struct ipv4 ip;

	if (load(skb, t->at, &ip, sizeof(ip)) || ip.ihl_version >> 4 != 4)
		return -1;
	length = (ip.ihl_version & 15) * 4;
	total = bpf_ntohs(ip.total);
	if (t->gso)
		total = t->left;
	if (length < sizeof(ip) || total < length || total > t->left)
		return -1;
	if (ip.fragment & bpf_htons(IP_OFFSET))
		return -1;
	t->family = 4;
	t->proto = ip.protocol;
	t->src[0] = ip.src;
	t->dst[0] = ip.dst;
	t->at += length;
	t->left = total - length;
	return 0;
}

static __always_inline int is_extension(u8 next)
{
	u64 low = 1 | 1ULL << 43 | 1ULL << 44 | 1ULL << 51 | 1ULL << 60;
	u64 high = 1ULL << (135 - 128) | 1ULL << (139 - 128) | 1ULL << (140 - 128);
	u64 set = next < 128 ? low : high;

	return !(next & 64) && set >> (next & 63) & 1;
}

static __always_inline int pass_extensions(struct __sk_buff *skb, struct transport *t)
{
	for (int i = 0; i < IPV6_EXT_MAX; i++) {
		struct ext e;
		u32 size;

		if (!is_extension(t->proto))
			return 0;
		if (t->left < 8 || load(skb, t->at, &e, sizeof(e)))
			return -1;
		size = (e.len + 1) * 8;
		if (t->proto == NEXT_AUTH)
			size = (e.len + 2) * 4;
		if (t->proto == NEXT_FRAGMENT) {
			size = 8;
			if (e.fragment & bpf_htons(IPV6_OFFSET))
				return -1;
		}
		if (t->left < size)
			return -1;
		t->proto = e.next;
		t->at += size;
		t->left -= size;
	}
	return is_extension(t->proto) ? -1 : 0;
}

static __always_inline int read_ipv6(struct __sk_buff *skb, struct transport *t)
{
	struct ipv6 ip;
	u32 payload;

	if (load(skb, t->at, &ip, sizeof(ip)) || bpf_ntohl(ip.version) >> 28 != 6)
		return -1;
	payload = bpf_ntohs(ip.payload);
	if (t->gso)
		payload = t->left - sizeof(ip);
	if (!payload || payload + sizeof(ip) > t->left)
		return -1;
	t->family = 6;
	t->proto = ip.next;
	for (int i = 0; i < 2; i++) {
		t->src[i] = ip.src[i];
		t->dst[i] = ip.dst[i];
	}
	t->at += sizeof(ip);
	t->left = payload;
	return pass_extensions(skb, t);
}

/* Finds the transport header; not 0 when the packet has none that could be read whole. */
PART find_transport(struct __sk_buff *skb)
{
	struct transport *t = transport_at_hand();
	struct place *p = place_of(skb);
	__be16 type;

	if (!p || !t)
		return -1;
	__builtin_memset(t, 0, sizeof(*t));
	t->gso = skb->gso_size > 0;
	type = p->l3 ? type_by_version(skb, t) : read_link(skb, t);
	if (!type || t->at > skb->len)
		return -1;
	t->left = skb->len - t->at;
	if (type == bpf_htons(ETH_P_IP))
		return read_ipv4(skb, t);
	return type == bpf_htons(ETH_P_IPV6) ? read_ipv6(skb, t) : -1;
}

/* Mostly the transport header lies bare behind Ethernet and an IP header without options: then
 * this finds it at little cost. Returns 0 otherwise, and for what is neither TCP nor UDP.
 */
static __always_inline struct tcp *bare_transport(struct __sk_buff *skb, struct place *p,
						  u8 *proto)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct ipv4 *ip4 = data + ETH_HLEN;
	struct ipv6 *ip6 = data + ETH_HLEN;
	struct tcp *tcp = (void *)(ip4 + 1);

	if (p->l3 || (void *)(tcp + 1) > end)
		return 0;
	*proto = ip4->protocol;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		tcp = (void *)(ip6 + 1);
		*proto = ip6->next;
		if ((void *)(tcp + 1) > end)
			return 0;
	} else if (eth->h_proto != bpf_htons(ETH_P_IP) || ip4->ihl_version != 0x45 ||
		   ip4->fragment & bpf_htons(IP_OFFSET)) {
		return 0;
	}
	return *proto == IPPROTO_TCP || *proto == IPPROTO_UDP ? tcp : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
