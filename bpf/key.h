/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its key: README section 3, Canonical form. */
#pragma once

#include "parse.h"

/* Leg 1 goes from the upper endpoint to the lower. */
static __always_inline u8 leg_by_ports(struct packet *p)
{
	return FORGET(p->icmp) ? p->icmp_reply : p->port[0] > p->port[1];
}

static __always_inline void set_ports(struct packet *p, u16 *port)
{
	u32 lower = FORGET(p->icmp) ? 0 : p->leg;

	port[0] = p->port[lower & 1];
	port[1] = p->port[~lower & 1];
}

static __always_inline void key_of4(struct packet *p, struct key4 *k)
{
	u32 lower;

	p->leg = leg_by_ports(p);
	if (p->addr[0][0] != p->addr[1][0])
		p->leg = p->addr[0][0] > p->addr[1][0];
	lower = FORGET(p->leg);
	k->addr[0] = p->addr[lower & 1][0];
	k->addr[1] = p->addr[~lower & 1][0];
	set_ports(p, k->port);
	k->zone = p->zone;
	k->proto = p->proto;
	k->cites = p->cites;
}

static __always_inline void key_of6(struct packet *p, struct key6 *k)
{
	u32 lower;

	p->leg = leg_by_ports(p);
	if (p->addr[0][0] != p->addr[1][0])
		p->leg = p->addr[0][0] > p->addr[1][0];
	else if (p->addr[0][1] != p->addr[1][1])
		p->leg = p->addr[0][1] > p->addr[1][1];
	lower = FORGET(p->leg);
	for (int i = 0; i < 2; i++) {
		k->addr[0][i] = p->addr[lower & 1][i];
		k->addr[1][i] = p->addr[~lower & 1][i];
	}
	set_ports(p, k->port);
	k->zone = p->zone;
	k->proto = p->proto;
	k->cites = p->cites;
}
