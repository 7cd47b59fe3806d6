/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which connections are counted: README section 3, Sample. */
#pragma once

#include "parse.h"

static __always_inline u64 mix(u64 h, u64 w)
{
	h = (h ^ w) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 32;
}

static __always_inline u64 endpoint_hash4(u64 port, u32 addr)
{
	return mix(port << 32 | addr, 0);
}

static __always_inline u64 endpoint_hash6(u64 port, u64 upper, u64 lower)
{
	return mix(mix(port, upper), lower);
}

static __always_inline int in_sample(u64 hash)
{
	return hash >> 32 <= sample_max;
}

/* The hash of the packet's connection. */
static __always_inline u64 hash_of(struct packet *p)
{
	u64 w = p->cites ? p->cites : p->proto, sum = 0;

	if (p->icmp)
		w += (u64)p->port[0] << 16 | (u64)(p->port[1] >> 8) << 32 |
		     (u64)(p->port[1] & 0xff) << 40;
	for (int i = 0; i < 2; i++) {
		u64 port = p->icmp ? 0 : bpf_ntohs(p->port[i]);

		if (p->family == 4)
			sum += endpoint_hash4(port, bpf_ntohl(p->addr[i][0]));
		else
			sum += endpoint_hash6(port, bpf_be64_to_cpu(p->addr[i][0]),
					      bpf_be64_to_cpu(p->addr[i][1]));
	}
	return mix(sum, w);
}
