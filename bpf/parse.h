/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to a packet: README sections 2 and 3. Its parts are functions that are not static:
 * the verifier walks such a function once, however often it is called. Before 5.13 they take
 * nothing but the context; the packet lies in scratch.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

#define PARSED (-1) /* anything else that a parser returns is an enum lost */
#define PART   __attribute__((noinline)) int

#define VLAN_TAGS     2
#define IPV6_EXT_MAX  8
#define NEXT_AUTH     51
#define NEXT_FRAGMENT 44
#define NEXT_NONE     59
#define ETH_P_QINQ    0x88a8
#define ETH_P_BRIDGED 0x6558 /* Ethernet inside GRE and Geneve */
#define MAX_OFFSET    0x7fff
#define IP_OFFSET     0x1fff /* bits of the fragment field */
#define IP_MORE	      0x2000
#define IPV6_OFFSET   0xfff8
#define IPV6_MORE     0x0001

static __always_inline struct scratch *scratch_at_hand(struct __sk_buff *skb)
{
	u32 zero = 0;

	/* Keeps the argument of functions that use nothing else of it. */
	asm volatile("" : : "r"(skb));
	return bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline struct packet *packet_at_hand(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);

	return s ? &s->packet : 0;
}

/* Steps over n bytes; the caller has seen them. */
static __always_inline void advance(struct packet *p, u32 n)
{
	FORGET(p->offset) += n;
	FORGET(p->left) -= n;
}

/* The next n bytes, or 0 when the packet does not have them. */
static __always_inline void *bytes(struct __sk_buff *skb, struct packet *p, u32 n)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	u64 offset = FORGET(p->offset);

	if (offset > MAX_OFFSET || FORGET(p->left) < n)
		return 0;
	/* Bounds the very register that is added; what the verifier knows of a copy is lost. */
	asm volatile("%0 &= %1" : "+r"(offset) : "i"(MAX_OFFSET));
	data += offset;
	if (data + n > end) {
		p->cut = 1;
		return 0;
	}
	return data;
}

static __always_inline int is_extension(u8 next)
{
	u64 low = 1 | 1ULL << 43 | 1ULL << 44 | 1ULL << 51 | 1ULL << 60;
	u64 high = 1ULL << (135 - 128) | 1ULL << (139 - 128) | 1ULL << (140 - 128);
	u64 set = next < 128 ? low : high;

	return !(next & 64) && set >> (next & 63) & 1;
}

/* Notes a fragment header; not 0 when the packet is a later fragment. */
static __always_inline int note_fragment6(struct packet *p, struct ext *e)
{
	p->datagram = e->datagram;
	p->fragment = FRAGMENT_NONE;
	if (e->fragment & bpf_htons(IPV6_MORE))
		p->fragment = FRAGMENT_FIRST;
	if (e->fragment & bpf_htons(IPV6_OFFSET))
		p->fragment = FRAGMENT_LATER;
	return p->fragment == FRAGMENT_LATER;
}

/* Passes IPv6 extension headers over, from p->next up to the transport header. */
PART parse_extensions(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);

	if (!p)
		return LOST_NO_HOOK;
	for (int i = 0; i < IPV6_EXT_MAX; i++) {
		struct ext *e;

		if (!is_extension(FORGET(p->next)))
			return PARSED;
		e = bytes(skb, p, 8);
		if (!e)
			return LOST_IPV6_EXTENSION;
		p->length = (e->len + 1) * 8;
		if (p->next == NEXT_AUTH)
			p->length = (e->len + 2) * 4;
		if (p->next == NEXT_FRAGMENT) {
			p->length = 8;
			if (note_fragment6(p, e)) {
				advance(p, 8);
				return PARSED;
			}
		}
		if (p->left < FORGET(p->length))
			return LOST_IPV6_EXTENSION;
		FORGET(p->next) = e->next;
		advance(p, FORGET(p->length));
	}
	return is_extension(p->next) ? LOST_IPV6_EXTENSION : PARSED;
}

static __always_inline int icmp_is_error(u8 proto, u8 type)
{
	if (proto == IPPROTO_ICMPV6)
		return type >= 1 && type <= 4;
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static __always_inline int icmp_is_query(u8 proto, u8 type)
{
	if (proto == IPPROTO_ICMPV6)
		return type == 128 || type == 129;
	return type == 8 || type == 0 || (type >= 13 && type <= 18);
}

/* The type of the request that a query's type belongs to. */
static __always_inline u8 icmp_request(u8 proto, u8 type)
{
	if (proto == IPPROTO_ICMPV6)
		return 128;
	if (type == 0)
		return 8;
	return type >= 13 && !(type & 1) ? type - 1 : type;
}

/* Puts what is part of an ICMP tuple in the places of the ports: identifier and the request's
 * type of a query, or type and code.
 */
static __always_inline void icmp_tuple(struct packet *p, struct icmp *h, u8 proto)
{
	u8 type = h->type;

	p->port[0] = 0;
	p->port[1] = type << 8 | h->code;
	p->icmp_reply = 0;
	if (!icmp_is_query(proto, type))
		return;
	p->port[0] = bpf_ntohs(h->id);
	p->port[1] = icmp_request(proto, type) << 8;
	p->icmp_reply = icmp_request(proto, type) != type;
}

/* Reads the transport header of the packet that an ICMP error cites, turned around. */
static __always_inline int parse_cited_transport(struct __sk_buff *skb, struct packet *p)
{
	p->cites = p->next;
	if (!p->cites) /* reserved; stands for no error in keys */
		return LOST_ICMP_CITED;
	if (p->cites == IPPROTO_TCP || p->cites == IPPROTO_UDP || p->cites == IPPROTO_SCTP) {
		struct udp *h = bytes(skb, p, 4);

		if (!h)
			return LOST_ICMP_CITED;
		p->port[0] = h->dport;
		p->port[1] = h->sport;
	}
	if (p->cites == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		struct icmp *h = bytes(skb, p, sizeof(*h));

		if (!h)
			return LOST_ICMP_CITED;
		icmp_tuple(p, h, p->cites);
		p->icmp_reply = 0;
	}
	return PARSED;
}

static __always_inline int parse_cited4(struct __sk_buff *skb, struct packet *p)
{
	struct ipv4 *ip = bytes(skb, p, sizeof(*ip));

	if (!ip)
		return LOST_ICMP_CITED;
	p->length = (ip->ihl_version & 0xf) * 4;
	if (ip->ihl_version >> 4 != 4 || p->length < sizeof(*ip) || p->left < p->length ||
	    ip->fragment & bpf_htons(IP_OFFSET))
		return LOST_ICMP_CITED;
	p->addr[0][0] = ip->dst;
	p->addr[1][0] = ip->src;
	p->next = ip->protocol;
	advance(p, FORGET(p->length));
	return parse_cited_transport(skb, p);
}

static __always_inline int parse_cited6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6 *ip = bytes(skb, p, sizeof(*ip));

	if (!ip || (ip->version & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return LOST_ICMP_CITED;
	p->addr[0][0] = ip->dst[0];
	p->addr[0][1] = ip->dst[1];
	p->addr[1][0] = ip->src[0];
	p->addr[1][1] = ip->src[1];
	p->next = ip->next;
	advance(p, sizeof(*ip));
	if (parse_extensions(skb) != PARSED || FORGET(p->fragment) == FRAGMENT_LATER)
		return LOST_ICMP_CITED;
	p->fragment = FRAGMENT_NONE;
	return parse_cited_transport(skb, p);
}

/* Reads the packet that an ICMP error cites. An error is not put together from fragments. */
PART parse_cited(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);

	if (!p)
		return LOST_NO_HOOK;
	p->fragment = FRAGMENT_NONE;
	return p->family == 4 ? parse_cited4(skb, p) : parse_cited6(skb, p);
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcp *h = bytes(skb, p, sizeof(*h));

	if (!h)
		return LOST_TCP_HEADER;
	p->length = (h->offset >> 4) * 4;
	if (p->length < sizeof(*h) || p->length > p->left)
		return LOST_TCP_HEADER;
	p->port[0] = h->sport;
	p->port[1] = h->dport;
	p->seq = bpf_ntohl(h->seq);
	p->ack = bpf_ntohl(h->ack);
	p->flags = h->flags;
	p->payload = p->left - p->length;
	return PARSED;
}

static __always_inline int parse_udp(struct __sk_buff *skb, struct packet *p)
{
	struct udp *h = bytes(skb, p, sizeof(*h));

	if (!h || bpf_ntohs(h->len) < sizeof(*h))
		return LOST_UDP_HEADER;
	p->port[0] = h->sport;
	p->port[1] = h->dport;
	p->length = sizeof(*h);
	return PARSED;
}

enum chunk {
	CHUNK_INIT = 1,
	CHUNK_INIT_ACK = 2,
	CHUNK_ABORT = 6,
	CHUNK_SHUTDOWN = 7,
	CHUNK_SHUTDOWN_ACK = 8,
	CHUNK_COOKIE_ECHO = 10,
	CHUNK_COOKIE_ACK = 11,
	CHUNK_SHUTDOWN_COMPLETE = 14,
};

/* The TCP flags that an SCTP chunk stands for. README section 5. */
static __always_inline u8 flags_of(u8 chunk)
{
	if (chunk == CHUNK_INIT)
		return FLAG_SYN;
	if (chunk == CHUNK_INIT_ACK)
		return FLAG_SYN | FLAG_ACK;
	if (chunk == CHUNK_SHUTDOWN)
		return FLAG_FIN;
	if (chunk == CHUNK_SHUTDOWN_ACK)
		return FLAG_FIN | FLAG_ACK;
	if (chunk == CHUNK_ABORT)
		return FLAG_RST;
	if (chunk == CHUNK_COOKIE_ECHO || chunk == CHUNK_COOKIE_ACK ||
	    chunk == CHUNK_SHUTDOWN_COMPLETE)
		return FLAG_ACK;
	return 0;
}

static __always_inline int parse_sctp(struct __sk_buff *skb, struct packet *p)
{
	struct sctp *h = bytes(skb, p, 16);

	if (!h)
		return LOST_SCTP_HEADER;
	p->flags = flags_of(h->chunk);
	p->port[0] = h->sport;
	p->port[1] = h->dport;
	p->length = 12;
	if (!(FORGET(p->flags) & FLAG_SYN))
		return PARSED;
	h = bytes(skb, p, 12 + 20);
	if (!h)
		return LOST_SCTP_HEADER;
	p->seq = bpf_ntohl(h->initiate_tag);
	return PARSED;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *p)
{
	struct icmp *h = bytes(skb, p, sizeof(*h));

	if (!h)
		return LOST_ICMP_HEADER;
	p->icmp_header = 1;
	p->icmp_type = h->type;
	p->icmp_code = h->code;
	if (!icmp_is_error(p->proto, h->type)) {
		icmp_tuple(p, h, p->proto);
		return PARSED;
	}
	advance(p, sizeof(*h));
	return parse_cited(skb);
}

/* Reads the transport header; p->length becomes its length. */
PART parse_transport(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);

	if (!p)
		return LOST_NO_HOOK;
	p->length = 0;
	if (p->proto == IPPROTO_TCP)
		return parse_tcp(skb, p);
	if (p->proto == IPPROTO_UDP)
		return parse_udp(skb, p);
	if (p->proto == IPPROTO_SCTP)
		return parse_sctp(skb, p);
	if (p->proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return parse_icmp(skb, p);
	return PARSED;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct ipv4 *ip = bytes(skb, p, sizeof(*ip));
	u32 total;

	if (!ip)
		return LOST_IPV4_HEADER;
	p->length = (ip->ihl_version & 0xf) * 4;
	if (ip->ihl_version >> 4 != 4 || p->length < sizeof(*ip) || p->length > p->left)
		return LOST_IPV4_HEADER;
	total = bpf_ntohs(ip->total);
	if (!p->gso) {
		if (total < p->length || total > p->left)
			return LOST_IPV4_LENGTH;
		p->left = total;
	}
	p->family = 4;
	p->proto = ip->protocol;
	p->addr[0][0] = ip->src;
	p->addr[1][0] = ip->dst;
	p->datagram = ip->id;
	p->fragment = ip->fragment & bpf_htons(IP_MORE) ? FRAGMENT_FIRST : FRAGMENT_NONE;
	if (ip->fragment & bpf_htons(IP_OFFSET))
		p->fragment = FRAGMENT_LATER;
	advance(p, FORGET(p->length));
	return PARSED;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6 *ip = bytes(skb, p, sizeof(*ip));
	u32 payload;
	int result;

	if (!ip || (ip->version & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return LOST_IPV6_HEADER;
	payload = bpf_ntohs(ip->payload);
	p->family = 6;
	p->fragment = FRAGMENT_NONE;
	p->addr[0][0] = ip->src[0];
	p->addr[0][1] = ip->src[1];
	p->addr[1][0] = ip->dst[0];
	p->addr[1][1] = ip->dst[1];
	p->next = ip->next;
	advance(p, sizeof(*ip));
	if (!p->gso) {
		if ((payload == 0 && p->next != NEXT_NONE) || payload > p->left)
			return LOST_IPV6_LENGTH;
		p->left = payload;
	}
	result = parse_extensions(skb);
	p->proto = p->next;
	return result;
}

/* Passes the link header over; p->type becomes the EtherType of what follows. */
static __always_inline int parse_link(struct __sk_buff *skb, struct packet *p)
{
	struct ethhdr *eth = bytes(skb, p, ETH_HLEN);

	if (!eth)
		return LOST_ETHERNET_HEADER;
	p->type = eth->h_proto;
	advance(p, ETH_HLEN);
	for (int i = 0; i <= VLAN_TAGS; i++) {
		__be16 *tag;

		if (p->type != bpf_htons(ETH_P_8021Q) && p->type != bpf_htons(ETH_P_QINQ))
			return PARSED;
		if (++p->tags > VLAN_TAGS)
			return LOST_VLAN_DEPTH;
		tag = bytes(skb, p, 4);
		if (!tag)
			return LOST_ETHERNET_HEADER;
		p->type = tag[1];
		advance(p, 4);
	}
	return LOST_VLAN_DEPTH;
}

/* Some kernels (5.10) hand over what has arrived at the end of a tunnel with the headers that
 * it came in, those of the link included. They are passed over. The kernel's network header
 * tells where the packet itself begins; its length tells how far that is from the frame's end.
 */
static __always_inline void pass_outer(struct __sk_buff *skb, struct packet *p)
{
	u16 begin[4] = {};
	u32 length, *first = (u32 *)begin, *at;

	if (bpf_skb_load_bytes_relative(skb, 0, begin, sizeof(begin), BPF_HDR_START_NET))
		return;
	if (*(u8 *)begin >> 4 == 4)
		length = bpf_ntohs(begin[1]);
	else if (*(u8 *)begin >> 4 == 6)
		length = bpf_ntohs(begin[2]) + sizeof(struct ipv6);
	else
		return;
	if (skb->len <= length)
		return;
	p->around = skb->len - length;
	advance(p, FORGET(p->around));
	at = bytes(skb, p, sizeof(begin));
	if (at && at[0] == first[0] && at[1] == first[1])
		return;
	p->offset = 0;
	p->left = skb->len;
	p->around = 0;
}

/* EtherType of a frame that begins with its IP header. */
static __always_inline void type_by_version(struct __sk_buff *skb, struct packet *p)
{
	u8 *first = bytes(skb, p, 1);

	p->type = 0;
	if (first && *first >> 4 == 4)
		p->type = bpf_htons(ETH_P_IP);
	if (first && *first >> 4 == 6)
		p->type = bpf_htons(ETH_P_IPV6);
}

/* Reads from the IP header on, whose EtherType is p->type. p->headers becomes the length of all
 * headers, which each segment of a GSO packet repeats.
 */
PART parse_ip(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);
	int result = LOST_NOT_IP;

	if (!p)
		return LOST_NO_HOOK;
	if (p->type == bpf_htons(ETH_P_IP))
		result = parse_ipv4(skb, p);
	else if (p->type == bpf_htons(ETH_P_IPV6))
		result = parse_ipv6(skb, p);
	p->headers = FORGET(p->offset);
	if (result != PARSED || FORGET(p->fragment) == FRAGMENT_LATER)
		return result;
	result = parse_transport(skb);
	if (result == PARSED && p->proto != IPPROTO_ICMP && p->proto != IPPROTO_ICMPV6)
		p->headers += FORGET(p->length);
	return result;
}

PART parse_frame(struct __sk_buff *skb)
{
	struct packet *p = packet_at_hand(skb);
	int result = PARSED;

	if (!p)
		return LOST_NO_HOOK;
	if (p->l3) {
		pass_outer(skb, p);
		type_by_version(skb, p);
	} else {
		result = parse_link(skb, p);
	}
	p->headers = FORGET(p->offset);
	return result == PARSED ? parse_ip(skb) : result;
}
