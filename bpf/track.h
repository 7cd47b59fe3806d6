/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its connection: README sections 4 to 7. */
#pragma once

#include <linux/in.h>
#include "maps.h"

/* What became of a packet. Other values are enum lost. */
#define ACCOUNTED (-1)
#define OBSERVED  (-2)
#define AGAIN	  (-3) /* the table changed under us; look it up again */
#define NO_PLACE  (-4) /* hand it to user space through the ring buffer */
#define ENDED	  (-5) /* its connection has; replace it */

#define CONTROL_FLAGS (FLAG_SYN | FLAG_FIN | FLAG_RST)

static __always_inline int expired(struct conn *c, u64 now)
{
	u64 last = c->leg[0].last;

	if ((s64)(c->leg[1].last - last) > 0)
		last = c->leg[1].last;
	return (s64)(now - last) > (s64)lifetime_ns[c->state & (STATE_SLOTS - 1)];
}

static __always_inline u8 end_of(struct conn *c)
{
	return c->state == STATE_CLOSED || c->state == STATE_RESET ? END_DETECTED : END_IDLE;
}

/* Spreads eight flag bits over eight bytes: byte i becomes 1 when bit i is set. */
static __always_inline u64 spread(u8 flags)
{
	u64 low = flags & 0x7f;

	return ((low * 0x0002040810204081ULL) & 0x0101010101010101ULL) |
	       ((u64)(flags >> 7) << 56);
}

static __always_inline void add_flags(struct leg *l, u8 flags)
{
	u64 all = spread(flags);

	if ((*(u64 *)l->flags & all) == all)
		return;
	for (int i = 0; i < 8; i++)
		if (flags & (1 << i))
			l->flags[i] = 1;
}

/* Counts a packet; outside the lock. Every CPU may do this at once. */
static __always_inline int count_packet(struct leg *l, struct packet *p)
{
	__sync_fetch_and_add(&l->packets, p->packets);
	__sync_fetch_and_add(&l->bytes, p->bytes);
	if ((s64)(p->now - l->last) > 0)
		l->last = p->now;
	add_flags(l, p->flags);
	return ACCOUNTED;
}

static __always_inline u8 first_state(struct packet *p)
{
	if (p->proto != IPPROTO_TCP)
		return STATE_UNREPLIED;
	if (p->flags & FLAG_RST)
		return STATE_RESET;
	if (p->flags & FLAG_SYN)
		return p->flags & FLAG_ACK ? STATE_SYN_RECEIVED : STATE_SYN_SENT;
	return p->flags & FLAG_FIN ? STATE_CLOSING : STATE_ESTABLISHED;
}

static __always_inline u8 first_initiator(struct packet *p)
{
	if (p->proto != IPPROTO_TCP)
		return p->icmp_reply ? !p->leg : p->leg;
	if (p->flags & FLAG_RST || !(p->flags & FLAG_SYN))
		return INITIATOR_UNKNOWN;
	return p->flags & FLAG_ACK ? !p->leg : p->leg;
}

static __always_inline void remember_syn(struct conn *c, struct leg *l, struct packet *p)
{
	l->isn = p->seq;
	c->seen[p->leg & 1] |= SEEN_SYN;
}

static __always_inline void remember_fin(struct conn *c, struct leg *l, struct packet *p)
{
	l->fin_end = p->seq + p->payload + 1 + !!(p->flags & FLAG_SYN);
	c->seen[p->leg & 1] |= SEEN_FIN;
}

/* Sets everything of a new connection but its ids and counters. Under the lock when the entry
 * is in the table; calls nothing, as 5.10 demands there.
 */
static __always_inline void begin(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];

	for (int i = 0; i < 2; i++) {
		c->leg[i].first = 0;
		c->leg[i].last = p->now;
		*(u64 *)c->leg[i].flags = 0;
		*(u64 *)&c->leg[i].owner = 0;
		c->reported[i].packets = 0;
		c->reported[i].bytes = 0;
		c->seen[i] = 0;
	}
	c->reported_at = p->now;
	c->state = first_state(p);
	c->life = LIFE_LIVE;
	c->initiator = first_initiator(p);
	c->began_syn_ack = FORGET(c->state) == STATE_SYN_RECEIVED;
	c->icmp_error = 0;
	l->owner = p->hook;
	l->first = p->now;
	if (p->proto != IPPROTO_TCP)
		return;
	if (p->flags & FLAG_SYN)
		remember_syn(c, l, p);
	if (p->flags & FLAG_FIN)
		remember_fin(c, l, p);
}

/* A SYN that opens another connection on the tuple. README section 5, rule 2. */
static __always_inline int opens_another(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];

	if (p->proto != IPPROTO_TCP ||
	    (p->flags & (FLAG_SYN | FLAG_ACK | FLAG_RST)) != FLAG_SYN)
		return 0;
	if (c->seen[p->leg & 1] & SEEN_SYN)
		return l->isn != p->seq;
	return c->state != STATE_SYN_SENT;
}

static __always_inline void close_side(struct conn *c, struct packet *p)
{
	u8 o = !p->leg, both;

	if (p->flags & FLAG_FIN)
		remember_fin(c, &c->leg[p->leg & 1], p);
	if (p->flags & FLAG_ACK && c->seen[o & 1] & SEEN_FIN &&
	    (s32)(p->ack - c->leg[o & 1].fin_end) >= 0)
		c->seen[o & 1] |= SEEN_FIN_ACKED;
	if (c->state == STATE_RESET || c->state == STATE_CLOSED)
		return;
	both = c->seen[0] & c->seen[1];
	if (both & SEEN_FIN_ACKED)
		c->state = STATE_CLOSED;
	else if (both & SEEN_FIN)
		c->state = STATE_LAST_ACK;
	else if ((c->seen[0] | c->seen[1]) & SEEN_FIN)
		c->state = STATE_CLOSING;
}

/* The later packets of a TCP connection; under the lock. README section 5, rules 1 to 3. */
static __always_inline void tcp_next(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];
	struct leg *other = &c->leg[!p->leg];

	if (p->flags & FLAG_RST) {
		if (c->state != STATE_CLOSED)
			c->state = STATE_RESET;
		return;
	}
	if (p->flags & FLAG_SYN && !(c->seen[p->leg & 1] & SEEN_SYN)) {
		remember_syn(c, l, p);
		if (c->state == STATE_SYN_SENT)
			c->state = STATE_SYN_RECEIVED;
	}
	if ((p->flags & (FLAG_SYN | FLAG_ACK)) == FLAG_SYN)
		return;
	if (c->state == STATE_SYN_RECEIVED && other->flags[4] &&
	    (p->flags & FLAG_ACK || l->flags[4]) &&
	    (c->began_syn_ack || c->seen[0] & c->seen[1] & SEEN_SYN))
		c->state = STATE_ESTABLISHED;
	close_side(c, p);
}

static __always_inline void list_hook(struct leg *l, u16 hook)
{
	for (int i = 0; i < 3; i++) {
		if (l->hooks[i] == hook)
			return;
		if (!l->hooks[i]) {
			l->hooks[i] = hook;
			return;
		}
	}
}

/* Whether this hook counts the leg, or would from now on. */
static __always_inline int counts(struct leg *l, struct packet *p)
{
	return l->owner == p->hook || !l->owner || (s64)(p->now - l->last) > (s64)takeover_ns;
}

/* Makes the hook the leg's owner; under the lock. */
static __always_inline void own(struct leg *l, struct packet *p)
{
	u16 former = l->owner;

	if (former == p->hook)
		return;
	l->owner = p->hook;
	if (!former)
		l->first = p->now;
	for (int i = 0; i < 3; i++)
		if (l->hooks[i] == p->hook)
			l->hooks[i] = former;
	if (former)
		list_hook(l, former);
}

/* A packet that cannot change the state needs no lock. */
static __always_inline int is_plain(struct conn *c, struct packet *p)
{
	if (p->proto != IPPROTO_TCP)
		return 1;
	return !(p->flags & CONTROL_FLAGS) &&
	       (c->state == STATE_ESTABLISHED || c->state == STATE_CLOSED ||
		c->state == STATE_RESET);
}

static __always_inline u64 new_flow_id(void)
{
	u32 zero = 0;
	u64 *n = bpf_map_lookup_elem(&flow_ids, &zero);

	if (!n)
		return 0;
	return (*n)++ * possible_cpus + bpf_get_smp_processor_id() + 1;
}

static __always_inline void lose(u32 hook, u32 reason, u64 packets, u64 bytes)
{
	struct hook_stats *s = bpf_map_lookup_elem(&stats, &hook);

	if (!s || reason >= LOST_REASONS)
		return;
	s->lost[reason].packets += packets;
	s->lost[reason].bytes += bytes;
}

/* Copies what ends with a connection; under the lock. */
static __always_inline void copy_out(struct conn *to, struct conn *c)
{
	to->id = c->id;
	to->leg[0] = c->leg[0];
	to->leg[1] = c->leg[1];
	to->reported[0] = c->reported[0];
	to->reported[1] = c->reported[1];
	to->reported_at = c->reported_at;
	to->state = c->state;
	to->life = c->life;
	to->initiator = c->initiator;
	to->icmp_type = c->icmp_type;
	to->icmp_code = c->icmp_code;
	to->icmp_error = c->icmp_error;
	to->id_check = c->id;
}

/* Where the packet's new entry or event is built (struct scratch). */
static __always_inline void *scratch_of(struct packet *p)
{
	return p + 1;
}

/* Sends an event to user space; not 0 when the ring buffer is full. */
static __always_inline long hand_over(struct packet *p, struct event *e, u8 kind, u8 end)
{
	e->kind = kind;
	e->family = p->family;
	e->key = p->key6;
	e->conn.end = end;
	return bpf_ringbuf_output(&events, e, sizeof(*e), 0);
}

static __always_inline void lose_unreported(u32 hook, struct conn *c)
{
	lose(hook, LOST_RING_FULL,
	     c->leg[0].packets - c->reported[0].packets + c->leg[1].packets -
		     c->reported[1].packets,
	     c->leg[0].bytes - c->reported[0].bytes + c->leg[1].bytes - c->reported[1].bytes);
}

/* An entry that was found can have been deleted and given to another tuple meanwhile. The
 * key is read after `life`: a live entry with this key stays so until this CPU leaves.
 * Family is a constant at each call, so that the verifier sees one kind of entry.
 */
static __always_inline int same4(struct key4 *a, struct key4 *b)
{
	u64 *x = (u64 *)a, *y = (u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

static __always_inline int same6(struct key6 *a, struct key6 *b)
{
	u64 *x = (u64 *)a, *y = (u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

static __always_inline int same_key(struct conn *c, struct packet *p, int family)
{
	if (family == 4)
		return same4(&((struct conn4 *)c)->key, &p->key4);
	return same6(&((struct conn6 *)c)->key, &p->key6);
}

/* Ends the connection in an entry and starts the packet's in its place, unless another CPU
 * has done so meanwhile.
 */
static __noinline int replace(struct conn *c, struct packet *p, int family)
{
	struct event *e = scratch_of(p);
	u64 id = new_flow_id();
	int result = AGAIN;
	u8 end = 0;

	bpf_spin_lock(&c->lock);
	if (!same_key(c, p, family))
		result = AGAIN;
	else if (c->life == LIFE_DEAD)
		result = NO_PLACE;
	else if (c->life == LIFE_RETIRED || expired(c, p->now))
		end = end_of(c);
	else if (opens_another(c, p))
		end = END_DETECTED;
	if (end) {
		c->id_check = id;
		copy_out(&e->conn, c);
		for (int i = 0; i < 2; i++) {
			__sync_fetch_and_add(&c->leg[i].packets, -e->conn.leg[i].packets);
			__sync_fetch_and_add(&c->leg[i].bytes, -e->conn.leg[i].bytes);
		}
		begin(c, p);
		c->id = id;
	}
	bpf_spin_unlock(&c->lock);

	if (!end)
		return result;
	if (hand_over(p, e, EVENT_REPLACED, end))
		lose_unreported(p->hook, &e->conn);
	return count_packet(&c->leg[p->leg & 1], p);
}

/* A packet that may change the state, or comes to a hook that does not own its leg. */
static __always_inline int update_locked(struct conn *c, struct packet *p, int family)
{
	struct leg *l = &c->leg[p->leg & 1];
	int result = ACCOUNTED;

	bpf_spin_lock(&c->lock);
	if (!same_key(c, p, family)) {
		result = AGAIN;
	} else if (c->life != LIFE_LIVE || expired(c, p->now)) {
		result = ENDED;
	} else if (!counts(l, p)) {
		list_hook(l, p->hook);
		result = OBSERVED;
	} else if (opens_another(c, p)) {
		result = ENDED;
	} else {
		own(l, p);
		if (p->proto == IPPROTO_TCP)
			tcp_next(c, p);
		else if (!p->cites && c->leg[!p->leg].owner)
			c->state = STATE_REPLIED;
	}
	bpf_spin_unlock(&c->lock);
	return result == ACCOUNTED ? count_packet(l, p) : result;
}

static __always_inline int update(struct conn *c, struct packet *p, int family)
{
	struct leg *l = &c->leg[p->leg & 1];
	u8 life = FORGET(c->life);

	if (!same_key(c, p, family))
		return AGAIN;
	if (life != LIFE_LIVE || expired(c, p->now))
		return ENDED;
	if (l->owner == p->hook && is_plain(c, p))
		return count_packet(l, p);
	return update_locked(c, p, family);
}

/* Fills in an entry that is not in the table yet: its first packet is in it from the start. */
static __always_inline void first_packet(struct conn *c, struct packet *p)
{
	struct leg *l = &c->leg[p->leg & 1];

	begin(c, p);
	l->packets = p->packets;
	l->bytes = p->bytes;
	add_flags(l, p->flags);
	c->id = new_flow_id();
	c->id_check = c->id;
}

static __noinline int no_place(struct packet *p)
{
	struct event *e = scratch_of(p);

	__builtin_memset(e, 0, sizeof(*e));
	first_packet(&e->conn, p);
	return hand_over(p, e, EVENT_PACKET, END_NO_ROOM) ? LOST_TABLE_FULL : ACCOUNTED;
}

#define E2BIG  7
#define EEXIST 17

/* What an insertion's error means for the packet. */
static __always_inline int after_insert(long err)
{
	if (!err)
		return ACCOUNTED;
	if (err == -EEXIST)
		return AGAIN;
	if (err == -E2BIG && !overflow_to_ring)
		return LOST_TABLE_FULL;
	return NO_PLACE;
}

static __noinline int open(struct packet *p)
{
	void *c = scratch_of(p);
	struct conn4 *c4 = c;
	struct conn6 *c6 = c;
	long err;

	__builtin_memset(c, 0, sizeof(struct conn6));
	first_packet(c, p);
	if (p->family == 4) {
		c4->key = p->key4;
		err = bpf_map_update_elem(&conns4, &p->key4, c, BPF_NOEXIST);
	} else {
		c6->key = p->key6;
		err = bpf_map_update_elem(&conns6, &p->key6, c, BPF_NOEXIST);
	}
	return after_insert(err);
}

/* Leg 1 goes from the upper endpoint to the lower. */
static __always_inline u8 leg_by_ports(struct packet *p)
{
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6)
		if (!p->cites || p->cites == p->proto)
			return p->icmp_reply;
	return p->sport > p->dport;
}

static __always_inline void set_ports(struct packet *p, u16 *port)
{
	int icmp = p->cites ? p->cites == IPPROTO_ICMP || p->cites == IPPROTO_ICMPV6
			    : p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6;
	u8 swap = icmp ? 0 : p->leg & 1;

	port[0] = swap ? p->dport : p->sport;
	port[1] = swap ? p->sport : p->dport;
}

static __always_inline void key_of4(struct packet *p, struct key4 *k)
{
	p->leg = p->src4 != p->dst4 ? p->src4 > p->dst4 : leg_by_ports(p);
	k->addr[0] = p->leg ? p->dst4 : p->src4;
	k->addr[1] = p->leg ? p->src4 : p->dst4;
	set_ports(p, k->port);
	k->zone = p->zone;
	k->proto = p->proto;
	k->cites = p->cites;
}

static __always_inline void key_of6(struct packet *p, struct key6 *k)
{
	if (p->src6[0] != p->dst6[0])
		p->leg = p->src6[0] > p->dst6[0];
	else if (p->src6[1] != p->dst6[1])
		p->leg = p->src6[1] > p->dst6[1];
	else
		p->leg = leg_by_ports(p);
	for (int i = 0; i < 2; i++) {
		k->addr[0][i] = p->leg ? p->dst6[i] : p->src6[i];
		k->addr[1][i] = p->leg ? p->src6[i] : p->dst6[i];
	}
	set_ports(p, k->port);
	k->zone = p->zone;
	k->proto = p->proto;
	k->cites = p->cites;
}

/* Tells the cited connection, if the table holds it, of an ICMP error. */
static __always_inline void note_error(struct conn *c, struct packet *p)
{
	if (c->life != LIFE_LIVE || expired(c, p->now))
		return;
	c->icmp_type = p->icmp_type;
	c->icmp_code = p->icmp_code;
	c->icmp_error = 1;
}

#define TRIES 2

static __noinline int track4(struct packet *p)
{
	struct key4 cited;
	int result = AGAIN;

	key_of4(p, &p->key4);
	if (p->cites) {
		struct conn4 *c;

		cited = p->key4;
		cited.proto = p->cites;
		cited.cites = 0;
		c = bpf_map_lookup_elem(&conns4, &cited);
		if (c && same4(&c->key, &cited))
			note_error((struct conn *)c, p);
	}
	for (int i = 0; i < TRIES && result == AGAIN; i++) {
		struct conn4 *c = bpf_map_lookup_elem(&conns4, &p->key4);

		if (!c)
			result = open(p);
		else
			result = update((struct conn *)c, p, 4);
		if (c && result == ENDED)
			result = replace((struct conn *)c, p, 4);
	}
	if (result == AGAIN || result == NO_PLACE)
		result = no_place(p);
	return result;
}

static __noinline int track6(struct packet *p)
{
	struct key6 cited;
	int result = AGAIN;

	key_of6(p, &p->key6);
	if (p->cites) {
		struct conn6 *c;

		cited = p->key6;
		cited.proto = p->cites;
		cited.cites = 0;
		c = bpf_map_lookup_elem(&conns6, &cited);
		if (c && same6(&c->key, &cited))
			note_error((struct conn *)c, p);
	}
	for (int i = 0; i < TRIES && result == AGAIN; i++) {
		struct conn6 *c = bpf_map_lookup_elem(&conns6, &p->key6);

		if (!c)
			result = open(p);
		else
			result = update((struct conn *)c, p, 6);
		if (c && result == ENDED)
			result = replace((struct conn *)c, p, 6);
	}
	if (result == AGAIN || result == NO_PLACE)
		result = no_place(p);
	return result;
}
