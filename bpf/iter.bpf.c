//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The sweep's look at a connection table, README section 9. An object of its own, which touches
 * no map of the packet path: the kernel shows it each entry of the table that it is attached
 * to.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "conn.h"

/* What is wanted, set by user space before a pass. */
volatile u64 lifetime_ns[STATE_SLOTS];
volatile u64 iter_now;	  /* ns */
volatile u32 iter_active; /* TICKs between two reports of a connection */
volatile u8 iter_all;

/* A read goes through so many buckets of the hash. */
volatile const u32 iter_buckets = 1;

/* Of a read, set to 0 by user space before it. */
u32 iter_until; /* the bucket before which it ends */
u32 iter_shown; /* how many entries it has copied */
u32 iter_held;	/* how many connections it has come across */

#include "expire.h"

/* An entry's value, with room for that of IPv6: words, as a type with a lock cannot be mapped.
 */
struct entry_copy {
	u64 value[sizeof(struct conn6) / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct entry_copy);
	__uint(max_entries, 1); /* set by the loader */
} copies SEC(".maps");

/* Of the kernel. Only the names matter in those whose fields are looked up in its BTF. */
struct seq_file {
	void *private;
} __attribute__((preserve_access_index));

struct bpf_iter_seq_hash_map_info {
	u32 bucket_id; /* of the entry that is shown */
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	void *map;
	void *key;
	void *value; /* NULL at the end */
};

/* Whether the read has come to its end. It ends between two buckets: the next one goes on at as
 * many entries from a bucket's beginning, and what comes there or goes meanwhile would have
 * others shown twice or never.
 */
static __always_inline int at_end(struct bpf_iter__bpf_map_elem *ctx)
{
	struct bpf_iter_seq_hash_map_info *at = ctx->meta->seq->private;
	u32 bucket = 0;

	bpf_probe_read_kernel(&bucket, sizeof(bucket), &at->bucket_id);
	if (!iter_until)
		iter_until = bucket + iter_buckets;
	return bucket >= iter_until;
}

/* Whether the entry holds this connection, and nobody is replacing it: `give_place` writes the
 * flow id after LIFE_ENDING and before LIFE_LIVE. It takes loads that are seen in their order.
 */
static __always_inline int holds(struct conn *c, u64 id)
{
	u8 life = *(volatile u8 *)&c->life;

	return (life == LIFE_LIVE || life == LIFE_RETIRED) && *(volatile u64 *)&c->id == id;
}

/* Whether a connection that goes on is to be reported. The Go side is Pass.due. */
static __always_inline int due(struct conn *c, u64 now)
{
	if (c->leg[0].packets == c->reported[0].packets &&
	    c->leg[1].packets == c->reported[1].packets)
		return 0;
	return (u32)(now >> TICK_SHIFT) - c->reported_at >= iter_active;
}

/* The read goes on behind an entry, which takes a place in the table unless it is a milestone.
 */
static __always_inline int passed(struct conn *c)
{
	iter_held += c->life != LIFE_DEAD;
	return 0;
}

/* Copies an entry that is wanted. Its lock cannot be taken here: a copy counts when the entry
 * held one connection before and after, whose counters have only grown. Size is a constant.
 */
static __always_inline int show(struct bpf_iter__bpf_map_elem *ctx, u32 key_size)
{
	volatile u64 *value = ctx->value;
	struct conn *c = ctx->value + key_size;
	u32 i = iter_shown;
	struct entry_copy *s;
	u64 id;

	if (!value)
		return 0;
	if (at_end(ctx))
		return 1;
	id = *(volatile u64 *)&c->id;
	if (!holds(c, id) || !(iter_all || expired(c, iter_now) || due(c, iter_now)))
		return passed(c);
	s = bpf_map_lookup_elem(&copies, &i);
	if (!s)
		return 1;
	for (int word = 0; word < (key_size + sizeof(*c)) / 8; word++)
		s->value[word] = value[word];
	if (holds(c, id))
		iter_shown = i + 1;
	return passed(c);
}

/* 1 ends the read; the next one goes on with the same entry. */
SEC("iter/bpf_map_elem")
int weir_show4(struct bpf_iter__bpf_map_elem *ctx)
{
	return show(ctx, sizeof(struct key4));
}

SEC("iter/bpf_map_elem")
int weir_show6(struct bpf_iter__bpf_map_elem *ctx)
{
	return show(ctx, sizeof(struct key6));
}

char _license[] SEC("license") = "Dual BSD/GPL";
