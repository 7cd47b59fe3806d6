//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Follows DNS transactions: README section 2. */
#include "../beside/beside.h"

#define DNS_RESPONSE  0x8000
#define DNS_TRUNCATED 0x0200
#define DNS_RCODE     0x000f

/* Of RFC 1035, section 3.1: a name has up to 255 bytes, with the empty label that ends it. */
#define NAME_MAX  254
#define LABEL_MAX 63

/* A name, type and class fit in. A power of two, so that an index can be masked. */
#define WIRE_SIZE 512
#define WIRE_MAX  (NAME_MAX + 5)

struct dns_header {
	__be16 id;
	__be16 flags;
	__be16 questions;
	__be16 others[3];
};

struct query_key {
	u64 client[2];
	u64 server[2];
	u16 client_port; /* network order */
	u16 server_port;
	u16 zone;
	__be16 id;
	u8 family;
	u8 proto;
	u8 pad[6];
};

struct question {
	u16 type;
	u8 asked;	       /* 0: the message has no question */
	u8 length;	       /* of the name */
	u8 name[NAME_MAX + 2]; /* labels, as on the wire, without the empty one */
};

/* A query, until some time after its answer. Written by the program; user space deletes. */
struct query {
	u64 at;	      /* ns */
	u64 answered; /* ns, 0: not yet; under the lock */
	struct bpf_spin_lock lock;
	u32 repeats; /* added to atomically */
	u16 hook;    /* that saw it first */
	u16 pad;
	struct question question;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct query_key);
	__type(value, struct query);
	__uint(max_entries, 16384); /* set by the loader */
} queries SEC(".maps");

enum outcome {
	OUTCOME_ANSWERED = 1,
	OUTCOME_UNASKED = 3, /* 2 is user space's: unanswered */
};

/* What the program tells of a response. */
struct response {
	struct query_key key;
	u64 at; /* ns, of the query; 0 when there was none */
	u64 end;
	u32 repeats;
	u8 outcome;
	u8 rcode;
	u8 truncated;
	u8 pad;
	struct question question;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21); /* bytes */
} events SEC(".maps");

/* Messages that are not told. The Go side is Reason. */
enum reason {
	REASON_SHORT,
	REASON_WRONG_WAY,
	REASON_COMPRESSED,
	REASON_LONG_NAME,
	REASON_CUT,
	REASON_TABLE_FULL,
	REASON_RING_FULL,
	REASONS,
};

struct counts {
	u64 messages[REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct counts);
	__uint(max_entries, 1);
} counts SEC(".maps");

/* What was read of the message at hand. */
struct message {
	struct query_key key;
	u32 at; /* offset of the first question in the frame */
	u32 left;
	u16 flags;
	u16 questions;
	u8 response;
	u8 whole; /* it lies in one packet */
};

/* Too large for the stack. The query is in plain words: a per-CPU value may not show a lock. */
struct scratch {
	struct message message;
	u8 wire[WIRE_SIZE];
	u64 query[sizeof(struct query) / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct scratch);
	__uint(max_entries, 1);
} scratch SEC(".maps");

static __always_inline struct scratch *scratch_at_hand(struct __sk_buff *skb)
{
	u32 zero = 0;

	/* Keeps the argument of functions that use nothing else of it. */
	asm volatile("" : : "r"(skb));
	return bpf_map_lookup_elem(&scratch, &zero);
}

/* The ports that DNS servers have here, in host order, one bit each. Set by the loader. */
volatile const u64 ports[65536 / 64] = {};

static __always_inline int is_server(__be16 port)
{
	u16 p = bpf_ntohs(port);

	return ports[p >> 6] >> (p & 63) & 1;
}

static __always_inline int count(enum reason r)
{
	u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counts, &zero);

	if (c)
		c->messages[r]++;
	return -1;
}

/* Reads the labels of the name that begins `wire`. Returns its length without the empty label,
 * or below 0.
 */
PART name_length(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	u32 at = 0, n;

	if (!s)
		return -1;
	n = s->message.left;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= NAME_MAX / 2; i++) {
		u8 label;

		if (at >= n)
			return count(REASON_CUT);
		label = s->wire[at & (WIRE_SIZE - 1)];
		if (!label)
			return at;
		if (label > LABEL_MAX)
			return count(REASON_COMPRESSED);
		at += label + 1;
		if (at > NAME_MAX)
			return count(REASON_LONG_NAME);
	}
	return count(REASON_LONG_NAME);
}

/* Reads the first question. Not 0 when that is not one. */
PART read_question(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct question *q;
	struct message *m;
	int length;
	u64 n;

	if (!s)
		return -1;
	q = &((struct query *)s->query)->question;
	m = &s->message;
	n = m->left < WIRE_MAX ? m->left : WIRE_MAX;

	if (!m->questions) {
		__builtin_memset(q, 0, sizeof(*q));
		return 0;
	}
	if (!n)
		return count(REASON_CUT);
	/* The verifier wants the bounds of the very register that is passed, and takes none but
	 * a mask's for the lower one.
	 */
	asm volatile("%0 += -1\n%0 &= %1\n%0 += 1" : "+r"(n) : "i"(WIRE_SIZE - 1));
	if (bpf_skb_load_bytes(skb, m->at, s->wire, n))
		return count(REASON_CUT);
	length = name_length(skb);
	if (length < 0)
		return -1;
	if (length + 5 > m->left)
		return count(REASON_CUT);
	q->asked = 1;
	q->length = length;
	q->type = s->wire[(length + 1) & (WIRE_SIZE - 1)] << 8 |
		  s->wire[(length + 2) & (WIRE_SIZE - 1)];
	__builtin_memcpy(q->name, s->wire, sizeof(q->name));
	return 0;
}

/* Find the message behind the transport header. Not 0 when there is none. */
static __always_inline int find_in_udp(struct __sk_buff *skb, struct transport *t,
				       struct message *m)
{
	struct udp h;
	u32 length;

	if (t->left < sizeof(h) || load(skb, t->at, &h, sizeof(h)))
		return -1;
	length = bpf_ntohs(h.len);
	if (t->gso || length > t->left) /* it stands for several; it is a fragment */
		length = t->left;
	if (length < sizeof(h))
		return -1;
	m->at = t->at + sizeof(h);
	m->left = length - sizeof(h);
	m->whole = 1;
	return 0;
}

static __always_inline int find_in_tcp(struct __sk_buff *skb, struct transport *t,
				       struct message *m)
{
	__be16 prefix;
	struct tcp h;
	u32 length;

	if (t->left < sizeof(h) || load(skb, t->at, &h, sizeof(h)))
		return -1;
	length = (h.offset >> 4) * 4;
	if (length < sizeof(h) || length + sizeof(prefix) > t->left ||
	    load(skb, t->at + length, &prefix, sizeof(prefix)))
		return -1;
	m->at = t->at + length + sizeof(prefix);
	m->left = t->left - length - sizeof(prefix);
	length = bpf_ntohs(prefix);
	if (length < sizeof(struct dns_header))
		return -1;
	m->whole = length <= m->left;
	if (m->whole)
		m->left = length;
	return 0;
}

/* Fills in the key as a packet from client to server has it. */
static __always_inline void set_key(struct message *m, struct transport *t, __be16 *port,
				    u16 zone, __be16 id)
{
	struct query_key *k = &m->key;

	__builtin_memset(k, 0, sizeof(*k));
	for (int i = 0; i < 2; i++) {
		k->client[i] = m->response ? t->dst[i] : t->src[i];
		k->server[i] = m->response ? t->src[i] : t->dst[i];
	}
	k->client_port = m->response ? port[1] : port[0];
	k->server_port = m->response ? port[0] : port[1];
	k->zone = zone;
	k->id = id;
	k->family = t->family;
	k->proto = t->proto;
}

/* Judges the header of the message at hand: README section 2. */
static __always_inline int judge(struct message *m, struct dns_header *h, __be16 *port, int udp)
{
	m->flags = bpf_ntohs(h->flags);
	m->questions = bpf_ntohs(h->questions);
	m->response = !!(m->flags & DNS_RESPONSE);
	if (!is_server(m->response ? port[0] : port[1]))
		return udp ? count(REASON_WRONG_WAY) : -1;
	return !udp && !m->response && (!m->whole || m->questions != 1);
}

/* Reads a DNS message as far as its first question. Not 0 when there is none. */
PART read_message(struct __sk_buff *skb)
{
	struct transport *t = transport_at_hand();
	struct scratch *s = scratch_at_hand(skb);
	struct place *p = place_of(skb);
	struct dns_header h;
	struct message *m;
	__be16 port[2];
	int udp;

	if (!p || !t || !s)
		return -1;
	m = &s->message;
	udp = t->proto == IPPROTO_UDP;
	if ((!udp && t->proto != IPPROTO_TCP) || t->left < sizeof(port) ||
	    load(skb, t->at, port, sizeof(port)) ||
	    (!is_server(port[0]) && !is_server(port[1])))
		return -1;
	if (udp ? find_in_udp(skb, t, m) : find_in_tcp(skb, t, m))
		return -1;
	if (m->left < sizeof(h) || load(skb, m->at, &h, sizeof(h)))
		return udp ? count(REASON_SHORT) : -1;
	if (judge(m, &h, port, udp))
		return -1;
	m->at += sizeof(h);
	m->left -= sizeof(h);
	set_key(m, t, port, p->zone, h.id);
	return 0;
}

static __always_inline void see_query(struct __sk_buff *skb, struct scratch *s)
{
	struct query *fresh = (struct query *)s->query, *old;
	struct message *m = &s->message;
	u16 hook = skb->cb[4];

	if (read_question(skb))
		return;
	old = bpf_map_lookup_elem(&queries, &m->key);
	if (old && !old->answered) {
		if (old->hook == hook)
			__sync_fetch_and_add(&old->repeats, 1);
		return;
	}
	fresh->at = now_ns();
	fresh->answered = 0;
	fresh->repeats = 0;
	fresh->hook = hook;
	if (bpf_map_update_elem(&queries, &m->key, fresh, BPF_ANY))
		count(REASON_TABLE_FULL);
}

/* Tells of a response; what it answers, if anything, is in the scratch. */
static __always_inline void tell(struct scratch *s, enum outcome outcome)
{
	struct message *m = &s->message;
	struct query *query = (struct query *)s->query;
	struct response *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		count(REASON_RING_FULL);
		return;
	}
	e->key = m->key;
	e->at = query->at;
	e->end = query->answered;
	e->repeats = query->repeats;
	e->outcome = outcome;
	e->rcode = m->flags & DNS_RCODE;
	e->truncated = !!(m->flags & DNS_TRUNCATED);
	e->pad = 0;
	e->question = query->question;
	bpf_ringbuf_submit(e, 0);
}

/* Marks a query as answered; 0 when it was so already. */
static __always_inline int answer(struct query *q, u64 now)
{
	int first;

	bpf_spin_lock(&q->lock);
	first = !q->answered;
	if (first)
		q->answered = now;
	bpf_spin_unlock(&q->lock);
	return first;
}

/* Notes a response that nobody asked for, so that other hooks know it. Not 0 when it is not
 * told. */
static __always_inline int note_unasked(struct __sk_buff *skb, struct scratch *s)
{
	struct query *fresh = (struct query *)s->query;

	if (s->message.key.proto != IPPROTO_UDP || read_question(skb))
		return -1;
	fresh->at = 0;
	fresh->answered = now_ns();
	fresh->repeats = 0;
	if (bpf_map_update_elem(&queries, &s->message.key, fresh, BPF_ANY))
		return count(REASON_TABLE_FULL);
	return 0;
}

static __always_inline void see_response(struct __sk_buff *skb, struct scratch *s)
{
	struct query *q = bpf_map_lookup_elem(&queries, &s->message.key);
	struct query *copy = (struct query *)s->query;
	u64 now;

	if (!q) {
		if (!note_unasked(skb, s))
			tell(s, OUTCOME_UNASKED);
		return;
	}
	now = now_ns();
	if (!answer(q, now))
		return;
	copy->at = q->at;
	copy->answered = now;
	copy->repeats = q->repeats;
	copy->question = q->question;
	tell(s, OUTCOME_ANSWERED);
}

SEC("tc")
int weir_dns(struct __sk_buff *skb)
{
	struct scratch *s = scratch_at_hand(skb);
	struct place *p = place_of(skb);
	struct tcp *bare;
	u8 proto;

	if (!p || !p->on || !s)
		return NEXT_PROGRAM;
	bare = bare_transport(skb, p, &proto);
	if (bare && !is_server(bare->sport) && !is_server(bare->dport))
		return NEXT_PROGRAM;
	if (find_transport(skb) || read_message(skb))
		return NEXT_PROGRAM;
	if (s->message.response)
		see_response(skb, s);
	else
		see_query(skb, s);
	return NEXT_PROGRAM;
}

/* Makes the compiler describe types that user space reads and no map declares. */
const struct response *unused_response __attribute__((unused));
const enum reason *unused_reason __attribute__((unused));
const enum outcome *unused_outcome __attribute__((unused));
