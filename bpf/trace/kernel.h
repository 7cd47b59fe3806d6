/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The fields of kernel structures that the tracing programs read. Where they lie in the running
 * kernel is filled in from its BTF when a program is loaded; the layout here means nothing.
 */
#pragma once

#include "../packet.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	u32 inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
};

struct in6_addr {
	u64 words[2];
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport; /* network order */
	u16 skc_num;   /* the local port, host order */
	u16 skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
};

struct tcp_sock {
	u32 srtt_us; /* eighths of a microsecond */
};

struct sk_buff {
	struct sock *sk;
	struct net_device *dev;
	u16 protocol; /* network order */
	u16 network_header;
	u32 tail; /* offsets from head, on 64-bit machines */
	u32 end;
	unsigned char *head;
};

struct skb_shared_info {
	u16 gso_segs;
};

#pragma clang attribute pop
