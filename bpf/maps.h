/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Maps and settings. README section 9 says who writes and who deletes. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key4);
	__type(value, struct conn4);
	__uint(max_entries, 65536); /* set by the loader */
} conns4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key6);
	__type(value, struct conn6);
	__uint(max_entries, 65536); /* set by the loader */
} conns6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct hook);
	__uint(max_entries, MAX_HOOKS);
} hooks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct hook_stats);
	__uint(max_entries, MAX_HOOKS);
} stats SEC(".maps");

/* What hooks had counted under an older layout; user space alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct hook_stats);
	__uint(max_entries, MAX_HOOKS);
} past SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22); /* bytes; set by the loader */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct work);
	__uint(max_entries, WORK_ITEMS);
} works SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct answer);
	__uint(max_entries, WORK_ITEMS);
} answers SEC(".maps");

/* Flow ids are drawn per CPU: id = count * possible CPUs + cpu + 1, unique without atomics
 * that return a value (5.12).
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1);
} flow_ids SEC(".maps");

/* The packet at hand, and what is built of it: 5.10 has no stack access by a variable index,
 * and loses count of what it reserved in the ring buffer when it is held for long. A per-CPU
 * value may not show the lock in its type, hence the plain words.
 */
struct scratch {
	u32 rule; /* the one that is asked */
	struct packet packet;
	struct packet outer;		    /* around the one inside a tunnel */
	u64 key[sizeof(struct key6) / 8];   /* ends where `fresh` begins, as in the tables */
	u64 fresh[sizeof(struct conn) / 8]; /* a connection of which this is the first packet */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct scratch);
	__uint(max_entries, 1);
} scratch SEC(".maps");

/* First fragments, for those that follow: README section 3. */
struct fragment_key {
	u64 src[2];
	u64 dst[2];
	u32 datagram;
	u16 zone;
	u8 family;
	u8 proto; /* IPv4 */
};

struct fragment_tuple {
	u64 at; /* ns */
	u16 sport;
	u16 dport;
	u8 proto;
	u8 icmp_reply;
	u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment_tuple);
	__uint(max_entries, 4096);
} fragments SEC(".maps");

/* What a rule asks for, struct rule.flags. The Go side is in filter.go. */
enum rule_flags {
	RULE_REJECT = 1,
	RULE_PROTOCOL = 2,
	RULE_PORTS = 4,
	RULE_FLAGS = 8,
	RULE_ICMP_TYPE = 16,
	RULE_ICMP_CODE = 32,
	RULE_EITHER = 64,
};

/* A rule of the filter; what is asked of the source first. Ports are in host order. */
struct rule {
	u64 addr[2][2];
	u64 mask[2][2];
	u16 from[2];
	u16 to[2];
	u8 family; /* 0: any */
	u8 proto;
	u8 flags; /* enum rule_flags */
	u8 flags_mask;
	u8 flags_match;
	u8 icmp_type;
	u8 icmp_code;
	u8 pad;
};

#define MAX_RULES 512

/* Two lists: one is in use while the other one is written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct rule);
	__uint(max_entries, 2 * MAX_RULES);
} rules SEC(".maps");

enum program {
	PROGRAM_PACKET,
	PROGRAM_PARSE,
	PROGRAM_FILTER,
	PROGRAM_TRACK,
	PROGRAMS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, PROGRAMS);
} jump SEC(".maps");

/* Kinds of tunnels, as bits of `tunnels`. The Go side is bpf.Tunnels. */
enum tunnel {
	TUNNEL_VXLAN = 1,
	TUNNEL_GENEVE = 2,
	TUNNEL_GRE = 4,
	TUNNEL_IPIP = 8,
};

enum clock_source {
	CLOCK_EXACT,  /* bpf_ktime_get_ns */
	CLOCK_COARSE, /* bpf_ktime_get_coarse_ns, 5.11 */
	CLOCK_VIRTUAL,
};

/* Fixed when the program is loaded: the verifier drops the branches not taken. */
volatile const u8 clock_source = CLOCK_EXACT;
volatile const u32 possible_cpus = 1;

/* What may leave a packet out. */
enum gate {
	GATE_FILTER = 1,
	GATE_SAMPLE = 2,
};

/* Settings that may change while traffic flows; user space writes, the packet path reads. */
volatile u64 virtual_now = 1;
volatile u64 takeover_ns = 1000000000;
volatile u64 lifetime_ns[STATE_SLOTS] = {};
volatile u8 overflow_to_ring = 0;
volatile u8 mid_stream = 1;
volatile u8 tunnels = 0;
volatile u8 gates = 0;		      /* enum gate */
volatile u32 sample_max = 0xffffffff; /* the highest hash of the sample, its upper half */
volatile u64 filter_list = 0;	      /* where its rules are: filter.h */

/* Whether a table has room, README section 9: `deletions` counts, from 1, what was deleted from
 * either, and full4 or full6 is what it was before the last insertion that found no room.
 */
volatile u64 deletions = 1;
/* Deletions that the kernel has refused; `collect` alone writes it. */
volatile u64 undeleted;
volatile u64 full4 = 0;
volatile u64 full6 = 0;

/* Insertions that failed for another reason than a table without room: see README section 9. */
volatile u64 refusals = 0;

/* When user space is woken to read events: once when wake_at bytes of them wait, and when a
 * packet finds no place while the alarm is set. User space sets wake_at and the alarm, and
 * clears `woken` when it has read.
 */
volatile const u32 wake_at = 1 << 19;
volatile u8 full_alarm = 0;
volatile u8 woken = 0;

/* The next item of `works` that collect takes, and how many there are. User space sets both
 * before a run; the kernel may run the program more often than asked (EINTR).
 */
u32 work_next = 0;
volatile u32 work_count = 0;

static __always_inline u64 now_ns(void)
{
	if (clock_source == CLOCK_VIRTUAL)
		return virtual_now;
	if (clock_source == CLOCK_COARSE)
		return bpf_ktime_get_coarse_ns();
	return bpf_ktime_get_ns();
}
