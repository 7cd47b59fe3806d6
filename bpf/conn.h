/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The connection table's keys and values, shared with user space through BTF. */
#pragma once

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

/* README section 5. The Go side is agent/conntrack.State. */
enum conn_state {
	STATE_NONE,
	STATE_SYN_SENT,
	STATE_SYN_RECEIVED,
	STATE_ESTABLISHED,
	STATE_CLOSING,
	STATE_LAST_ACK,
	STATE_CLOSED,
	STATE_RESET,
	STATE_UNREPLIED,
	STATE_REPLIED,
	STATE_SLOTS = 16, /* a power of two, so that an index can be masked */
};

/* Garbage collection, README section 6. */
enum conn_life {
	LIFE_LIVE,
	LIFE_RETIRED, /* step 1 done: no new packet counts here */
	LIFE_DEAD,    /* step 4: about to be deleted */
	LIFE_ENDING,  /* a packet is handing its last record over, to replace it */
	LIFE_BORN,    /* is being written to the table */
};

/* What a leg has shown and is, struct leg.seen. SEEN_FIN and SEEN_ACK are FLAG_FIN and FLAG_ACK
 * one bit further left.
 */
enum leg_seen {
	SEEN_SYN = 1,
	SEEN_FIN = 2,
	SEEN_FIN_ACKED = 4, /* the other side acknowledged this leg's FIN */
	SEEN_NEXT = 8,	    /* next is valid */
	SEEN_INITIATOR = 16,
	SEEN_ACK = 32,		 /* ack is valid */
	SEEN_SYN_ACK_FIRST = 64, /* the connection's first packet was this leg's SYN and ACK */
	SEEN_CACHED = 128,	 /* CPUs may count in slots: cache.h */
};

/* flowEndReason of IPFIX, as far as the packet path knows. */
enum end_reason {
	END_IDLE = 1,
	END_DETECTED = 3,
	END_NO_ROOM = 5,
};

/* Keys hold the lower endpoint first. Ports are in network order, except for ICMP, where
 * port[0] is a query's identifier and port[1] is type << 8 | code in host order.
 */
struct key4 {
	u32 addr[2];
	u16 port[2];
	u16 zone;
	u8 proto;
	u8 cites; /* protocol of the connection that an ICMP error is about, else 0 */
};

struct key6 {
	u64 addr[2][2];
	u16 port[2];
	u16 zone;
	u8 proto;
	u8 cites;
};

/* Numbers are in host order. "Close enough": a store that another CPU undoes with an older
 * value does no harm.
 */
struct leg {
	u64 packets; /* added to atomically */
	u64 bytes;   /* added to atomically */
	u64 first;   /* ns; under the lock */
	u64 last;    /* ns; plain stores, close enough */
	u32 isn;     /* with SEEN_SYN; under the lock */
	u32 next;    /* README section 5, with SEEN_NEXT; plain stores, close enough */
	u32 ack;     /* with SEEN_ACK; plain stores, close enough */
	u16 owner;   /* hook that counts; 0: none yet; under the lock */
	u8 flags;    /* OR of all TCP flags; under the lock */
	u8 seen;     /* enum leg_seen; under the lock */
};

struct count {
	u64 packets;
	u64 bytes;
};

#define OTHER_HOOKS 3

/* The fields of a connection. A macro, because kernels before 6.2 find the lock only where it
 * is a direct member of the map's value. 160 bytes; with an IPv4 key 176.
 */
#define CONN_FIELDS                                                                            \
	u64 id; /* flow id; under the lock */                                                  \
	struct bpf_spin_lock lock;                                                             \
	u8 state;                                                                              \
	u8 life;                                                                               \
	u8 icmp_type; /* of the last ICMP error that cited this connection; 0: none */         \
	u8 icmp_code;                                                                          \
	struct leg leg[2];                                                                     \
	struct count reported[2];  /* what user space acknowledged; written by collect */      \
	u16 hooks[2][OTHER_HOOKS]; /* other hooks that saw the leg; under the lock */          \
	u32 reported_at;	   /* of the last acknowledgement or the start, in TICKs */

#define TICK_SHIFT 24 /* a TICK is 2^24 ns, 16.8 ms; 32 bits of them are 2.3 years */

struct conn {
	CONN_FIELDS
};

/* Each entry repeats its key: a CPU can hold an entry that was deleted and given away. Both end
 * as struct conn does, and are used through it.
 */
struct conn4 {
	struct key4 key;
	CONN_FIELDS
};

struct conn6 {
	struct key6 key;
	CONN_FIELDS
};

enum event_kind {
	EVENT_REPLACED = 1, /* the last of a connection that was replaced in place */
	EVENT_PACKET = 2,   /* a packet that found no place in the table */
};

/* What goes through the ring buffer. IPv4 keys use the first 16 bytes of key. */
struct event {
	u8 kind;
	u8 family; /* 4 or 6 */
	u8 end;	   /* enum end_reason */
	u8 pad[5];
	struct key6 key;
	struct conn conn;
};

enum work_op {
	WORK_ACK = 1,	 /* in: id, reported, reported_at; marks them as reported */
	WORK_RETIRE = 2, /* in: id; marks an expired entry as retired */
	WORK_READ = 3,	 /* in: id; out: end, answer: the final counters of a retired entry */
	WORK_DELETE = 4, /* in: id; deletes a retired entry */
	WORK_FORCE = 5,	 /* in: id; as WORK_RETIRE, also when not expired */
	WORK_EVICT = 6,	 /* in: id; as WORK_RETIRE, also when not expired but unanswered */
	/* A slot's, whose number is the id. */
	WORK_FOLD = 7,
	WORK_CLOSE = 8, /* also folds it */
	WORK_FREE = 9,	/* also folds it; it was closed before the last grace period */
};

enum work_result {
	WORK_GONE = 1, /* no entry, another connection, or not in the state asked for */
	WORK_DONE = 2,
};

struct work {
	u8 op;
	u8 result;
	u8 family;
	u8 end; /* enum end_reason */
	u32 reported_at;
	u64 id;
	struct count reported[2];
	struct key6 key; /* IPv4 keys use the first 16 bytes */
};

/* A connection copied for user space: words, as a type with a lock cannot be mapped. */
struct answer {
	u64 conn[sizeof(struct conn) / 8];
};

#define WORK_ITEMS 4096
#define WORK_RUN   32 /* items that one run of collect takes */

/* README section 2. Their names are in stats.go. */
enum lost {
	LOST_ETHERNET_HEADER,
	LOST_VLAN_DEPTH,
	LOST_NOT_IP,
	LOST_IPV4_HEADER,
	LOST_IPV4_LENGTH,
	LOST_IPV6_HEADER,
	LOST_IPV6_LENGTH,
	LOST_IPV6_EXTENSION,
	LOST_FRAGMENT,
	LOST_TCP_HEADER,
	LOST_UDP_HEADER,
	LOST_SCTP_HEADER,
	LOST_ICMP_HEADER,
	LOST_ICMP_CITED,
	LOST_MID_STREAM,
	LOST_TABLE_FULL,
	LOST_RING_FULL,
	LOST_NO_HOOK,
	LEFT_OUT_FILTER, /* not lost: left out */
	LEFT_OUT_SAMPLING,
	LOST_REASONS,
};

struct hook_stats {
	struct count seen;
	struct count accounted;
	struct count observed;
	struct count lost[LOST_REASONS];
};

enum hook_flags {
	HOOK_ON = 1,
	HOOK_L3 = 2,  /* frames begin with the IP header */
	HOOK_OFF = 4, /* was taken off; user space alone cares */
};

struct hook {
	u16 zone;
	u8 flags;
	u8 egress;
	u32 ifindex;
	u64 netns; /* inode of the network namespace, so that an adopting agent knows its hooks
		    */
};

#define MAX_HOOKS 1024
