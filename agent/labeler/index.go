package labeler

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// numbers gives objects numbers, from 1 on, which take less room than pointers.
type numbers[T any] struct {
	all  []T
	free []uint32
}

func (n *numbers[T]) add(t T) uint32 {
	if len(n.all) == 0 {
		n.all = make([]T, 1) // 0 is none
	}
	if last := len(n.free) - 1; last >= 0 {
		i := n.free[last]
		n.free = n.free[:last]
		n.all[i] = t
		return i
	}
	n.all = append(n.all, t)
	return uint32(len(n.all) - 1)
}

func (n *numbers[T]) remove(i uint32) {
	var none T
	n.all[i] = none
	n.free = append(n.free, i)
}

// shards is into how many tables an index is divided: one that grows is then copied in
// microseconds.
const shards = 256

// key is an address, IPv4 as it is mapped into IPv6. Ports and zones are no part of it.
type key struct{ hi, lo uint64 }

func keyOf(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{0, 0xFFFF<<32 | uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// is4 tells whether it is an IPv4 address.
func (k key) is4() bool { return k.hi == 0 && k.lo>>32 == 0xFFFF }

// word is a part of an address, from 0 to 3.
func (k key) word(i int) uint32 {
	if i < 2 {
		return uint32(k.hi >> (32 - 32*i))
	}
	return uint32(k.lo >> (96 - 32*i))
}

// index finds what is known of an address. It is there instead of a map because lookups mostly wait
// for memory: here they wait once, for the address itself, and not for one that is not known.
type index struct {
	seed   key
	shards [shards]shard
	n      int
}

// shard is a table with open addressing: from where its hash leads to, an address is in the first
// slot that was free. There are a power of two, and at most three quarters are in use.
type shard struct {
	tags  []uint8 // of hashes; 0: the slot is free
	slots []address
	n     int
}

func newIndex() *index { return &index{seed: key{rand.Uint64(), rand.Uint64()}} }

// hash mixes by multiplication, as wyhash does.
func (x *index) hash(k key) hash {
	hi, lo := bits.Mul64(k.hi^x.seed.hi, k.lo^x.seed.lo)
	hi, lo = bits.Mul64(hi^lo^k.lo, 0x9E3779B97F4A7C15) // 2^64 divided by the golden ratio
	return hash(hi ^ lo)
}

// hash is of an address: of its bits, the lowest tell the shard, the highest are the tag, and others
// tell the slot.
type hash uint64

func (h hash) shard() int { return int(h % shards) }
func (h hash) tag() uint8 { return uint8(h>>56) | 1 }

// start is the slot where a hash leads to.
func (s *shard) start(h hash) int { return int(h/shards) & (len(s.tags) - 1) }

func (s *shard) next(i int) int { return (i + 1) & (len(s.tags) - 1) }

// get finds an address, or nil. It may be somewhere else after the next change of the index.
func (x *index) get(k key) *address {
	h := x.hash(k)
	s := &x.shards[h.shard()]
	if s.n == 0 {
		return nil
	}
	for i := s.start(h); s.tags[i] != 0; i = s.next(i) {
		if s.tags[i] == h.tag() && s.slots[i].key == k {
			return &s.slots[i]
		}
	}
	return nil
}

// add makes room for an address that is not there.
func (x *index) add(k key) *address {
	h := x.hash(k)
	s := &x.shards[h.shard()]
	if 4*(s.n+1) > 3*len(s.tags) {
		x.grow(s)
	}
	s.n++
	x.n++
	a := s.free(h)
	a.key = k
	return a
}

// free takes the first free slot for a hash.
func (s *shard) free(h hash) *address {
	i := s.start(h)
	for s.tags[i] != 0 {
		i = s.next(i)
	}
	s.tags[i] = h.tag()
	return &s.slots[i]
}

func (x *index) grow(s *shard) {
	old := *s
	size := max(8, 2*len(old.tags))
	s.tags, s.slots = make([]uint8, size), make([]address, size)
	for i, t := range old.tags {
		if t != 0 {
			a := &old.slots[i]
			s.free(x.hash(a.key)).move(a)
		}
	}
}

// remove takes an address out. Those behind it move up as far as where their hashes lead to.
func (x *index) remove(k key) {
	h := x.hash(k)
	s := &x.shards[h.shard()]
	free := s.start(h)
	for s.slots[free].key != k {
		free = s.next(free)
	}
	mask := len(s.tags) - 1
	for i := s.next(free); s.tags[i] != 0; i = s.next(i) {
		start := s.start(x.hash(s.slots[i].key))
		if (i-start)&mask >= (i-free)&mask {
			s.tags[free] = s.tags[i]
			s.slots[free].move(&s.slots[i])
			free = i
		}
	}
	s.tags[free], s.slots[free] = 0, address{}
	s.n--
	x.n--
}

// all goes through all addresses.
func (x *index) all(yield func(*address) bool) {
	for i := range x.shards {
		for j, t := range x.shards[i].tags {
			if t != 0 && !yield(&x.shards[i].slots[j]) {
				return
			}
		}
	}
}
