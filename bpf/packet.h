/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the packet at hand, and the headers it is read from. */
#pragma once

#include <linux/bpf.h>
#include "conn.h"

#define FLAG_FIN 0x01
#define FLAG_SYN 0x02
#define FLAG_RST 0x04
#define FLAG_ACK 0x10

enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST, /* offset 0, and more follow */
	FRAGMENT_LATER,
};

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
	/* Source and destination (of an ICMP error: the cited ones, turned around). */
	u64 addr[2][2]; /* an IPv4 address is in the first word */
	u16 port[2];
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
	u8 icmp_header; /* icmp_type and icmp_code are its own */
	u8 icmp;	/* the tuple is of ICMP: identifier, type and code for ports */
	u8 has_states;	/* its protocol's connections have the states of TCP */
	u8 has_numbers; /* its sequence and acknowledgement numbers mean something */
	u8 l3;		/* the frame begins with its IP header */
	u8 gso;		/* stands for several, so its IP lengths are not judged */
	u8 cut;		/* the parser wanted bytes that are not linear */
	u8 fragment;	/* enum fragment */
	/* Where the parser is, and how many bytes follow by the packet's own account. */
	u32 offset;
	u32 left;
	u32 length;  /* of the header at hand */
	u32 headers; /* bytes of all headers, which each segment repeats */
	u32 around;  /* bytes in front of the frame that are not part of it */
	__be16 type;
	u8 next;      /* protocol of the next header */
	u8 tags;      /* VLAN tags so far */
	u32 datagram; /* a fragment's identification */
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
	__be16 fragment; /* of a fragment header, and the next one */
	u32 datagram;
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

struct sctp {
	u16 sport;
	u16 dport;
	u32 tag;
	u32 checksum;
	u8 chunk;
	u8 flags;
	u16 length;
	__be32 initiate_tag; /* of INIT and INIT ACK */
};

/* Reads from memory what the compiler would keep in a register, where the verifier follows it.
 */
#define FORGET(x) (*(volatile typeof(x) *)&(x))
