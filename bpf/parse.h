/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to a packet: README sections 2 and 3. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "conn.h"

#define PARSED (-1) /* anything else that a parser returns is an enum lost */

#define VLAN_TAGS    2
#define IPV6_EXT_MAX 8
#define NEXT_NONE    59
#define ETH_P_QINQ   0x88a8
#define MAX_OFFSET   0x7fff
#define IP_FRAGMENT  0x1fff /* offset bits of the fragment field */

#define FLAG_FIN 0x01
#define FLAG_SYN 0x02
#define FLAG_RST 0x04
#define FLAG_ACK 0x10

/* What the packet path needs to know of a packet. It lies in per-CPU memory rather than on the
 * stack: the verifier does not follow values through memory, so that the many ways through the
 * parser count as one behind it (1 000 000 instructions walked became 4 000).
 */
struct packet {
	u64 now;
	u64 bytes;   /* frame length on the wire, all segments */
	u32 packets; /* segments */
	u16 hook;
	u16 zone;
	/* Endpoints as the packet has them (of an ICMP error: the cited ones, turned around).
	 */
	union {
		u32 src4;
		u64 src6[2];
	};
	union {
		u32 dst4;
		u64 dst6[2];
	};
	u16 sport;
	u16 dport;
	u32 seq;
	u32 ack;
	u32 payload; /* bytes of TCP payload */
	u8 family;   /* 4 or 6 */
	u8 proto;
	u8 cites;
	u8 flags;
	u8 icmp_reply; /* the packet answers a query */
	u8 icmp_type;
	u8 icmp_code;
	u8 leg;
	u8 l3;	   /* the frame begins with its IP header */
	u8 tagged; /* a VLAN tag is carried beside the frame */
	/* Where the parser is, and how many bytes follow by the packet's own account. */
	u32 offset;
	u32 left;
	u32 length;  /* of the header at hand */
	u32 headers; /* bytes of all headers, which each segment repeats */
	__be16 type;
	u8 next; /* protocol of the next header */
	u8 pad;
	/* The table's key. All 40 bytes are set, whatever the family. */
	union {
		struct key4 key4;
		struct key6 key6;
	};
};

struct ipv4 {
	u8 ihl_version;
	u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	u8 ttl;
	u8 protocol;
	u16 checksum;
	u32 src;
	u32 dst;
};

struct ipv6 {
	__be32 version;
	__be16 payload;
	u8 next;
	u8 hops;
	u64 src[2];
	u64 dst[2];
};

struct ext {
	u8 next;
	u8 len;
	__be16 fragment; /* of a fragment header */
};

struct tcp {
	u16 sport;
	u16 dport;
	__be32 seq;
	__be32 ack;
	u8 offset;
	u8 flags;
	u16 window;
	u16 checksum;
	u16 urgent;
};

struct udp {
	u16 sport;
	u16 dport;
	__be16 len;
	u16 checksum;
};

struct icmp {
	u8 type;
	u8 code;
	u16 checksum;
	__be16 id;
	u16 sequence;
};

/* Reads from memory what the compiler would keep in a register, where the verifier follows it.
 */
#define FORGET(x) (*(volatile typeof(x) *)&(x))

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
	return data + n > end ? 0 : data;
}

static __always_inline int is_extension(u8 next)
{
	u64 low = 1 | 1ULL << 43 | 1ULL << 44 | 1ULL << 51 | 1ULL << 60;
	u64 high = 1ULL << (135 - 128) | 1ULL << (139 - 128) | 1ULL << (140 - 128);
	u64 set = next < 128 ? low : high;

	return !(next & 64) && set >> (next & 63) & 1;
}

/* Passes IPv6 extension headers over, from p->next up to the transport header. */
static __always_inline int skip_extensions(struct __sk_buff *skb, struct packet *p)
{
	for (int i = 0; i < IPV6_EXT_MAX; i++) {
		struct ext *e;

		if (!is_extension(FORGET(p->next)))
			return PARSED;
		e = bytes(skb, p, 8);
		if (!e)
			return LOST_IPV6_EXTENSION;
		p->length = (e->len + 1) * 8;
		if (p->next == 51)
			p->length = (e->len + 2) * 4;
		if (p->next == 44) {
			p->length = 8;
			if (e->fragment & bpf_htons(0xfff8))
				return LOST_FRAGMENT;
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

	p->sport = 0;
	p->dport = type << 8 | h->code;
	p->icmp_reply = 0;
	if (!icmp_is_query(proto, type))
		return;
	p->sport = bpf_ntohs(h->id);
	p->dport = icmp_request(proto, type) << 8;
	p->icmp_reply = icmp_request(proto, type) != type;
}

/* Reads the transport header of the packet that an ICMP error cites, turned around. */
static __always_inline int parse_cited_transport(struct __sk_buff *skb, struct packet *p)
{
	p->cites = p->next;
	if (p->cites == IPPROTO_TCP || p->cites == IPPROTO_UDP) {
		struct udp *h = bytes(skb, p, 4);

		if (!h)
			return LOST_ICMP_CITED;
		p->sport = h->dport;
		p->dport = h->sport;
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
	    ip->fragment & bpf_htons(IP_FRAGMENT))
		return LOST_ICMP_CITED;
	p->src4 = ip->dst;
	p->dst4 = ip->src;
	p->next = ip->protocol;
	advance(p, FORGET(p->length));
	return parse_cited_transport(skb, p);
}

static __always_inline int parse_cited6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6 *ip = bytes(skb, p, sizeof(*ip));

	if (!ip || (ip->version & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return LOST_ICMP_CITED;
	p->src6[0] = ip->dst[0];
	p->src6[1] = ip->dst[1];
	p->dst6[0] = ip->src[0];
	p->dst6[1] = ip->src[1];
	p->next = ip->next;
	advance(p, sizeof(*ip));
	if (skip_extensions(skb, p) != PARSED)
		return LOST_ICMP_CITED;
	return parse_cited_transport(skb, p);
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcp *h = bytes(skb, p, sizeof(*h));

	if (!h)
		return LOST_TCP_HEADER;
	p->length = (h->offset >> 4) * 4;
	if (p->length < sizeof(*h) || p->length > p->left)
		return LOST_TCP_HEADER;
	p->sport = h->sport;
	p->dport = h->dport;
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
	p->sport = h->sport;
	p->dport = h->dport;
	p->length = sizeof(*h);
	return PARSED;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *p)
{
	struct icmp *h = bytes(skb, p, sizeof(*h));

	if (!h)
		return LOST_ICMP_HEADER;
	if (!icmp_is_error(p->proto, h->type)) {
		icmp_tuple(p, h, p->proto);
		return PARSED;
	}
	p->icmp_type = h->type;
	p->icmp_code = h->code;
	advance(p, sizeof(*h));
	return p->family == 4 ? parse_cited4(skb, p) : parse_cited6(skb, p);
}

/* Reads the transport header; p->length becomes its length. */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p)
{
	p->length = 0;
	if (p->proto == IPPROTO_TCP)
		return parse_tcp(skb, p);
	if (p->proto == IPPROTO_UDP)
		return parse_udp(skb, p);
	if (p->proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return parse_icmp(skb, p);
	return PARSED;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p, int gso)
{
	struct ipv4 *ip = bytes(skb, p, sizeof(*ip));
	u32 total;

	if (!ip)
		return LOST_IPV4_HEADER;
	p->length = (ip->ihl_version & 0xf) * 4;
	if (ip->ihl_version >> 4 != 4 || p->length < sizeof(*ip) || p->length > p->left)
		return LOST_IPV4_HEADER;
	total = bpf_ntohs(ip->total);
	if (!gso) {
		if (total < p->length || total > p->left)
			return LOST_IPV4_LENGTH;
		p->left = total;
	}
	if (ip->fragment & bpf_htons(IP_FRAGMENT))
		return LOST_FRAGMENT;
	p->family = 4;
	p->proto = ip->protocol;
	p->src4 = ip->src;
	p->dst4 = ip->dst;
	advance(p, FORGET(p->length));
	return PARSED;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p, int gso)
{
	struct ipv6 *ip = bytes(skb, p, sizeof(*ip));
	u32 payload;
	int result;

	if (!ip || (ip->version & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
		return LOST_IPV6_HEADER;
	payload = bpf_ntohs(ip->payload);
	p->family = 6;
	p->src6[0] = ip->src[0];
	p->src6[1] = ip->src[1];
	p->dst6[0] = ip->dst[0];
	p->dst6[1] = ip->dst[1];
	p->next = ip->next;
	advance(p, sizeof(*ip));
	if (!gso) {
		if ((payload == 0 && p->next != NEXT_NONE) || payload > p->left)
			return LOST_IPV6_LENGTH;
		p->left = payload;
	}
	result = skip_extensions(skb, p);
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
		if (i + p->tagged >= VLAN_TAGS)
			return LOST_VLAN_DEPTH;
		tag = bytes(skb, p, 4);
		if (!tag)
			return LOST_ETHERNET_HEADER;
		p->type = tag[1];
		advance(p, 4);
	}
	return LOST_VLAN_DEPTH;
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

/* Reads all headers that a packet has. */
static __always_inline int parse_headers(struct __sk_buff *skb, struct packet *p, int gso)
{
	int result = PARSED;

	if (p->l3)
		type_by_version(skb, p);
	else
		result = parse_link(skb, p);
	if (result != PARSED)
		return result;
	if (p->type == bpf_htons(ETH_P_IP))
		result = parse_ipv4(skb, p, gso);
	else if (p->type == bpf_htons(ETH_P_IPV6))
		result = parse_ipv6(skb, p, gso);
	else
		return LOST_NOT_IP;
	if (result != PARSED)
		return result;
	p->headers = FORGET(p->offset);
	result = parse_transport(skb, p);
	p->headers += FORGET(p->length);
	return result;
}

/* Parses what is linear. A packet that is cut off because the rest is not linear looks like
 * a truncated one; the caller makes it linear and comes again.
 */
static __always_inline int parse_packet(struct __sk_buff *skb, struct packet *p)
{
	u32 segments = skb->gso_segs;
	int result;

	p->offset = 0;
	p->headers = 0;
	p->left = skb->len;
	p->packets = 1;
	p->tagged = skb->vlan_present;
	p->bytes = skb->len + p->tagged * 4;
	result = parse_headers(skb, p, segments > 1);
	if (segments > 1) {
		p->packets = segments;
		p->bytes += (u64)(segments - 1) * (p->headers + p->tagged * 4);
	}
	return result;
}
