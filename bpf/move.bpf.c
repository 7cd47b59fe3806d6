//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Moves connections from tables that no packet counts in any more into those in use. Loaded
 * only while there are any. A run is not interrupted, so that a connection is always in exactly
 * one of two tables, whenever user space is killed.
 */
#include <linux/errno.h>
#include "move.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key4);
	__type(value, struct conn4);
	__uint(max_entries, 1); /* set by the loader */
} conns4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key6);
	__type(value, struct conn6);
	__uint(max_entries, 1); /* set by the loader */
} conns6 SEC(".maps");

/* The table that they come from, whatever its layout: only its keys are used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key4);
	__type(value, struct conn4);
	__uint(max_entries, 1); /* set by the loader, as the sizes of key and value */
} old SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct move);
	__uint(max_entries, MOVE_ITEMS);
} moves SEC(".maps");

/* The next item, and how many there are; both are set by user space before a run. */
u32 move_next = 0;
volatile u32 move_count = 0;

/* What an insertion's error means. Before 6.4 the map's function returns an int, whose upper
 * half is not what a long says.
 */
static __always_inline int after_insert(int err)
{
	if (!err)
		return MOVE_DONE;
	return err == -E2BIG ? MOVE_FULL : MOVE_BUSY;
}

static __always_inline int move4(struct move *m)
{
	void *key = (void *)m->conn - sizeof(struct key4);
	struct conn4 *c = bpf_map_lookup_elem(&conns4, key);

	if (c)
		return join((struct conn *)(&c->key + 1), m);
	return after_insert(bpf_map_update_elem(&conns4, key, key, BPF_NOEXIST));
}

static __always_inline int move6(struct move *m)
{
	struct conn6 *c = bpf_map_lookup_elem(&conns6, m->key);

	if (c)
		return join((struct conn *)(&c->key + 1), m);
	return after_insert(bpf_map_update_elem(&conns6, m->key, m->key, BPF_NOEXIST));
}

/* Does the next item; 0 when there is none. */
__attribute__((noinline)) int move_item(struct __sk_buff *skb)
{
	u32 i = move_next;
	struct move *m = bpf_map_lookup_elem(&moves, &i);

	asm volatile("" : : "r"(skb)); /* keeps the argument */
	if (!m || i >= move_count)
		return 0;
	move_next = i + 1;
	m->result = MOVE_GONE;
	if (!bpf_map_lookup_elem(&old, m->from))
		return 1;
	if (((struct conn *)m->conn)->life == LIFE_DEAD)
		m->result = MOVE_ENDED; /* reported before */
	else
		m->result = m->family == 4 ? move4(m) : move6(m);
	if (m->result == MOVE_DONE)
		bpf_map_delete_elem(&old, m->from);
	return 1;
}

SEC("tc")
int weir_move(struct __sk_buff *skb)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < MOVE_RUN; i++)
		if (!move_item(skb))
			break;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
