//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* How many entries the connection tables hold, by the counters that the kernel keeps of each
 * map (6.6): the cost is that of the number of CPUs, whatever the tables hold. An object of its
 * own, for kernels without them.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "conn.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key4);
	__type(value, struct conn4);
	__uint(max_entries, 1); /* the packet path's table is put in its place */
} conns4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key6);
	__type(value, struct conn6);
	__uint(max_entries, 1);
} conns6 SEC(".maps");

/* Of the kernel. Only the name matters, but it wants a definition. */
struct bpf_map {
	u32 id;
};

extern s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym;

s64 entries4;
s64 entries6;

SEC("tc")
int weir_count(struct __sk_buff *skb)
{
	(void)skb;
	entries4 = bpf_map_sum_elem_count((const struct bpf_map *)&conns4);
	entries6 = bpf_map_sum_elem_count((const struct bpf_map *)&conns6);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
