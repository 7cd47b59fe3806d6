//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Times the handshakes of TCP connections: README section 3. */
#include "../beside/beside.h"

#define OPENING_FLAGS (FLAG_SYN | FLAG_RST | FLAG_ACK | FLAG_FIN)

/* Addresses and ports from the client to the server. */
struct handshake_key {
	u64 client[2];
	u64 server[2];
	u16 client_port; /* network order */
	u16 server_port;
	u16 zone;
	u8 family;
	u8 pad;
};

/* A handshake that goes on. The packets of one come one after the other, so plain stores do. */
struct handshake {
	u64 syn;	 /* ns, of the first SYN */
	u64 syn_ack;	 /* ns, of the first SYN and ACK; 0: none yet */
	u64 ack;	 /* ns, in what is told: of the ACK that completes it; 0: none came */
	u32 client_next; /* what acknowledges the SYN */
	u32 server_next; /* what acknowledges the SYN and ACK */
	u32 syns;	 /* how often the SYN was repeated */
	u32 early_syns;	 /* those of them that came before the SYN and ACK */
	u32 syn_acks;	 /* how often the SYN and ACK was repeated */
	u16 syn_hook;	 /* that saw it first */
	u16 syn_ack_hook;
	u16 slot; /* of `pending` */
	u8 waits; /* it is counted there */
	u8 data;  /* in what is told: the ACK carried data */
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct handshake_key);
	__type(value, struct handshake);
	__uint(max_entries, 16384); /* set by the loader */
} handshakes SEC(".maps");

/* How many handshakes wait for their last ACK, by a hash of the connection: where none does, an
 * ACK needs no look into the table. Added to atomically by the program, taken off by whoever
 * deletes the handshake.
 */
#define SLOTS 16384

struct pending {
	u32 waiting[SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, struct pending);
	__uint(max_entries, 1);
} pending SEC(".maps");

/* A handshake that is complete. */
struct completed {
	struct handshake_key key;
	struct handshake handshake;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21); /* bytes */
} events SEC(".maps");

/* Handshakes that could not be followed, and those that could not be told. */
u64 table_full = 0;
u64 ring_full = 0;

/* Equal in both directions, and over all families: it need not tell connections apart for sure.
 */
static __always_inline u32 slot_of(u32 addresses, u32 ports)
{
	u32 h = (addresses ^ (ports >> 16) ^ (ports << 16) ^ ports) * 0x9e3779b1;

	return h >> 18;
}

static __always_inline u32 fold(u64 a, u64 b)
{
	u64 x = a ^ b;

	return x ^ x >> 32;
}

static __always_inline u32 slot_of_transport(struct transport *t, struct tcp *h)
{
	u32 a = fold(t->src[0], t->src[1]) ^ fold(t->dst[0], t->dst[1]);

	return slot_of(a, (u32)h->sport ^ h->dport);
}

static __always_inline u32 slot_of_bare(struct __sk_buff *skb, struct tcp *h)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv4 *ip4 = data + ETH_HLEN;
	struct ipv6 *ip6 = data + ETH_HLEN;
	u32 ports = (u32)h->sport ^ h->dport;

	if ((void *)(ip4 + 1) == (void *)h)
		return slot_of(ip4->src ^ ip4->dst, ports);
	if ((void *)(ip6 + 1) > end)
		return 0;
	return slot_of(fold(ip6->src[0], ip6->src[1]) ^ fold(ip6->dst[0], ip6->dst[1]), ports);
}

static __always_inline u32 *waiting_at(u32 slot)
{
	u32 zero = 0;
	struct pending *p = bpf_map_lookup_elem(&pending, &zero);
	u64 at = slot;

	/* The verifier wants the bounds of the very register that is added. */
	asm volatile("%0 &= %1" : "+r"(at) : "i"(SLOTS - 1));
	return p ? &p->waiting[at] : 0;
}

/* An ACK that nobody can wait for: nearly every packet. */
static __always_inline int is_plain(struct __sk_buff *skb, struct tcp *h)
{
	u32 *waiting;

	if (h->flags & FLAG_SYN)
		return h->flags & (FLAG_RST | FLAG_FIN);
	if (!(h->flags & FLAG_ACK))
		return 1;
	waiting = waiting_at(slot_of_bare(skb, h));
	return waiting && !*waiting;
}

static __always_inline void set_key(struct handshake_key *k, struct transport *t, struct tcp *h,
				    u16 zone, int from_server)
{
	__builtin_memset(k, 0, sizeof(*k));
	for (int i = 0; i < 2; i++) {
		k->client[i] = from_server ? t->dst[i] : t->src[i];
		k->server[i] = from_server ? t->src[i] : t->dst[i];
	}
	k->client_port = from_server ? h->dport : h->sport;
	k->server_port = from_server ? h->sport : h->dport;
	k->zone = zone;
	k->family = t->family;
}

static __always_inline void see_syn(struct handshake_key *k, struct tcp *h, u32 slot, u16 hook)
{
	struct handshake *old = bpf_map_lookup_elem(&handshakes, k);
	struct handshake fresh = {};
	u32 next = bpf_ntohl(h->seq) + 1;

	if (old && old->client_next == next) {
		if (old->syn_hook == hook) {
			__sync_fetch_and_add(&old->syns, 1);
			if (!old->syn_ack)
				__sync_fetch_and_add(&old->early_syns, 1);
		}
		return;
	}
	fresh.syn = now_ns();
	fresh.client_next = next;
	fresh.syn_hook = hook;
	fresh.slot = slot;
	fresh.waits = old ? old->waits : 0;
	if (bpf_map_update_elem(&handshakes, k, &fresh, BPF_ANY))
		__sync_fetch_and_add(&table_full, 1);
}

static __always_inline void see_syn_ack(struct handshake_key *k, struct tcp *h, u16 hook)
{
	struct handshake *s = bpf_map_lookup_elem(&handshakes, k);
	u32 next = bpf_ntohl(h->seq) + 1;
	u32 *waiting;

	if (!s || s->client_next != bpf_ntohl(h->ack))
		return;
	if (s->syn_ack) {
		if (s->server_next == next && s->syn_ack_hook == hook)
			__sync_fetch_and_add(&s->syn_acks, 1);
		return;
	}
	waiting = waiting_at(s->slot);
	if (waiting && !s->waits) {
		s->waits = 1;
		__sync_fetch_and_add(waiting, 1);
	}
	s->server_next = next;
	s->syn_ack_hook = hook;
	s->syn_ack = now_ns();
}

static __always_inline void complete(struct handshake_key *k, struct handshake *s, int data)
{
	struct completed *c = bpf_ringbuf_reserve(&events, sizeof(*c), 0);
	u32 *waiting = waiting_at(s->slot);

	if (c) {
		c->key = *k;
		c->handshake = *s;
		c->handshake.ack = now_ns();
		c->handshake.data = data;
		bpf_ringbuf_submit(c, 0);
	} else {
		__sync_fetch_and_add(&ring_full, 1);
	}
	/* Only one of those that may try at once deletes it. */
	if (!bpf_map_delete_elem(&handshakes, k) && waiting)
		__sync_fetch_and_add(waiting, -1);
}

static __always_inline void see_ack(struct handshake_key *k, struct transport *t, struct tcp *h)
{
	struct handshake *s = bpf_map_lookup_elem(&handshakes, k);

	if (s && s->syn_ack && s->server_next == bpf_ntohl(h->ack) &&
	    s->client_next == bpf_ntohl(h->seq))
		complete(k, s, t->left > (h->offset >> 4) * 4);
}

/* Not 0 when the packet is not TCP. */
static __always_inline int load_header(struct __sk_buff *skb, struct transport *t,
				       struct tcp *h)
{
	u32 length;

	if (t->proto != IPPROTO_TCP || t->left < sizeof(*h) || load(skb, t->at, h, sizeof(*h)))
		return -1;
	length = (h->offset >> 4) * 4;
	return length < sizeof(*h) || length > t->left;
}

SEC("tc")
int weir_handshake(struct __sk_buff *skb)
{
	struct transport *t = transport_at_hand();
	struct place *p = place_of(skb);
	struct handshake_key k;
	struct tcp *bare, h;
	int from_server;
	u8 proto;

	if (!p || !p->on || !t)
		return NEXT_PROGRAM;
	bare = bare_transport(skb, p, &proto);
	if (bare && (proto != IPPROTO_TCP || is_plain(skb, bare)))
		return NEXT_PROGRAM;
	if (find_transport(skb) || load_header(skb, t, &h))
		return NEXT_PROGRAM;
	from_server = (h.flags & FLAG_SYN) && (h.flags & FLAG_ACK);
	set_key(&k, t, &h, p->zone, from_server);
	switch (h.flags & OPENING_FLAGS) {
	case FLAG_SYN:
		see_syn(&k, &h, slot_of_transport(t, &h), skb->cb[4]);
		break;
	case FLAG_SYN | FLAG_ACK:
		see_syn_ack(&k, &h, skb->cb[4]);
		break;
	case FLAG_ACK:
	case FLAG_ACK | FLAG_FIN:
		see_ack(&k, t, &h);
	}
	return NEXT_PROGRAM;
}

/* Makes the compiler describe a type that user space reads and no map declares. */
const struct completed *unused_completed __attribute__((unused));
