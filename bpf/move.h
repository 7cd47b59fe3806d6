/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A connection that is moved into another table, where packets may have gone on with it or
 * begun another one since they are counted there: README section 11.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include "hooks.h"

#define END_FORCED 4 /* flowEndReason of IPFIX, as enum end_reason */

enum move_result {
	MOVE_GONE = 1, /* not in the table that it comes from: it was moved before */
	MOVE_DONE,
	MOVE_ENDED, /* it stays, for user space to report and delete; `end` says why */
	MOVE_FULL,  /* the same; there is no room */
	MOVE_BUSY,  /* the entry of its tuple is being written; ask again */
};

#define MOVE_ITEMS   1024
#define MOVE_RUN     32 /* items that one run of move takes */
#define MOVE_MAX_KEY 64

/* A connection to move. It was copied when nobody counted in it any more. */
struct move {
	u8 family;
	u8 proto;
	u8 cites;
	u8 result;
	u8 end; /* enum end_reason */
	u8 pad[3];
	u64 lifetime;			   /* ns, of its state */
	u8 from[MOVE_MAX_KEY];		   /* its key in the table that it comes from */
	u64 key[sizeof(struct key6) / 8];  /* ends where conn begins, as in the tables */
	u64 conn[sizeof(struct conn) / 8]; /* a type with a lock cannot be mapped */
};

static __always_inline u64 later(u64 a, u64 b)
{
	return (s64)(a - b) > 0 ? a : b;
}

static __always_inline u64 began(struct conn *c)
{
	if (!c->leg[0].owner)
		return c->leg[1].first;
	if (!c->leg[1].owner)
		return c->leg[0].first;
	return later(c->leg[0].first, c->leg[1].first) == c->leg[0].first ? c->leg[1].first
									  : c->leg[0].first;
}

/* Whether the connection began with this leg's SYN, which the old one would not have taken for
 * a part of itself: README section 5, rule 2.
 */
static __always_inline int began_another(struct conn *c, struct conn *old, int leg)
{
	struct leg *was = &old->leg[leg];
	struct leg *l = &c->leg[leg];

	if ((l->seen & (SEEN_SYN | SEEN_INITIATOR)) != (SEEN_SYN | SEEN_INITIATOR) ||
	    c->leg[!leg].seen & SEEN_SYN_ACK_FIRST)
		return 0;
	if (was->seen & SEEN_SYN)
		return was->isn != l->isn;
	return old->state != STATE_SYN_SENT;
}

/* Why the old connection ended before the one in the table began; 0: it did not. */
static __always_inline u8 end_before(struct conn *c, struct conn *old, u64 lifetime)
{
	u64 last = later(old->leg[0].last, old->leg[1].last);

	if (c->reported[0].packets || c->reported[1].packets)
		return END_FORCED; /* it has a name of its own by now */
	if (old->life == LIFE_RETIRED || (s64)(began(c) - last) > (s64)lifetime)
		return old->state == STATE_CLOSED || old->state == STATE_RESET ? END_DETECTED
									       : END_IDLE;
	return began_another(c, old, 0) || began_another(c, old, 1) ? END_DETECTED : 0;
}

/* Hooks that the old leg had, beside the owner that the leg has now. */
static __always_inline void merge_hooks(struct leg *l, u16 *hooks, struct leg *old, u16 *had)
{
	if (!l->owner)
		l->owner = old->owner;
	else if (old->owner && old->owner != l->owner)
		list_hook(hooks, old->owner);
	for (int i = 0; i < OTHER_HOOKS; i++)
		if (had[i] && had[i] != l->owner)
			list_hook(hooks, had[i]);
}

/* TCP's numbers. After a FIN, `next` stays as it was. */
static __always_inline void merge_numbers(struct leg *l, struct leg *old)
{
	if (!(l->seen & SEEN_SYN))
		l->isn = old->isn;
	if (old->seen & SEEN_NEXT &&
	    (!(l->seen & SEEN_NEXT) || old->seen & SEEN_FIN || (s32)(old->next - l->next) > 0))
		l->next = old->next;
	if (old->seen & SEEN_ACK && (!(l->seen & SEEN_ACK) || (s32)(old->ack - l->ack) > 0))
		l->ack = old->ack;
}

static __always_inline void merge_leg(struct leg *l, u16 *hooks, struct leg *old, u16 *had)
{
	__sync_fetch_and_add(&l->packets, old->packets);
	__sync_fetch_and_add(&l->bytes, old->bytes);
	if (!old->owner)
		return;
	l->first = old->first;
	l->last = l->owner ? later(l->last, old->last) : old->last;
	l->flags |= old->flags;
	merge_hooks(l, hooks, old, had);
	merge_numbers(l, old);
}

/* Whether what was seen in the other direction since then acknowledges the leg's FIN. */
static __always_inline int fin_acked(struct leg *l, struct leg *other, u8 other_seen, u8 proto)
{
	if (!(l->seen & SEEN_FIN) || !(other_seen & SEEN_ACK))
		return 0;
	return proto != IPPROTO_TCP || (s32)(other->ack - l->next) >= 0;
}

/* What is told of the old connection by its first packet stays: initiator, and how it began. */
#define SEEN_FIRST (SEEN_INITIATOR | SEEN_SYN_ACK_FIRST)

static __always_inline void merge_seen(struct conn *c, struct conn *old, u8 proto)
{
	u8 since[2] = {c->leg[0].seen, c->leg[1].seen};

	for (int i = 0; i < 2; i++)
		c->leg[i].seen = (since[i] & ~SEEN_FIRST) | old->leg[i].seen;
	for (int i = 0; i < 2; i++)
		if (fin_acked(&c->leg[i], &c->leg[!i], since[!i], proto))
			c->leg[i].seen |= SEEN_FIN_ACKED;
}

/* The old state, taken on by what was seen since: README section 5. */
static __always_inline u8 merged_state(struct conn *c, u8 state)
{
	u8 both = c->leg[0].seen & c->leg[1].seen;
	u8 any = c->leg[0].seen | c->leg[1].seen;

	if (state == STATE_CLOSED || state == STATE_RESET)
		return state;
	if (c->state == STATE_RESET)
		return STATE_RESET;
	if (state == STATE_SYN_SENT && both & SEEN_SYN)
		state = STATE_SYN_RECEIVED;
	if (state == STATE_SYN_RECEIVED && both & SEEN_ACK &&
	    (both & SEEN_SYN || any & SEEN_SYN_ACK_FIRST))
		state = STATE_ESTABLISHED;
	if (both & SEEN_FIN_ACKED)
		return STATE_CLOSED;
	if (both & SEEN_FIN)
		return STATE_LAST_ACK;
	return any & SEEN_FIN ? STATE_CLOSING : state;
}

static __always_inline u8 merged_reply(struct conn *c, u8 cites)
{
	return !cites && c->leg[0].owner && c->leg[1].owner ? STATE_REPLIED : STATE_UNREPLIED;
}

/* Makes the connection in the table the old one, gone on; under the lock. */
static __always_inline void merge(struct conn *c, struct conn *old, struct move *m)
{
	for (int i = 0; i < 2; i++) {
		merge_leg(&c->leg[i], c->hooks[i], &old->leg[i], old->hooks[i]);
		c->reported[i] = old->reported[i];
	}
	c->id = old->id;
	c->reported_at = old->reported_at;
	if (!c->icmp_type) {
		c->icmp_type = old->icmp_type;
		c->icmp_code = old->icmp_code;
	}
	if (m->proto == IPPROTO_TCP || m->proto == IPPROTO_SCTP) {
		merge_seen(c, old, m->proto);
		c->state = merged_state(c, old->state);
	} else {
		for (int i = 0; i < 2; i++)
			c->leg[i].seen = old->leg[i].seen;
		c->state = merged_reply(c, m->cites);
	}
}

/* Brings the old connection to the entry of its tuple. */
static __always_inline int join(struct conn *c, struct move *m)
{
	struct conn *old = (struct conn *)m->conn;
	int result = MOVE_DONE;
	u8 end = 0;

	bpf_spin_lock(&c->lock);
	if (c->life != LIFE_LIVE && c->life != LIFE_RETIRED) {
		result = MOVE_BUSY;
	} else {
		end = c->life == LIFE_RETIRED ? END_FORCED : end_before(c, old, m->lifetime);
		if (end)
			result = MOVE_ENDED;
		else
			merge(c, old, m);
	}
	bpf_spin_unlock(&c->lock);
	m->end = end;
	return result;
}
