package labeler

import (
	"math"
	"math/bits"
	"net/netip"
)

// trie finds the longest prefix of an address. Its nodes decide by words of 32 bits, of which IPv4
// has one: a node lists where in its word's space another answer begins. All of it is in a few
// slices, as lookups mostly wait for memory.
type trie struct {
	roots  [2]trieNode // of IPv4 and IPv6
	top    []uint32    // by the first 16 bits of IPv4: the last interval that begins at or before them
	cuts   []cut       // by a hash of the first word of IPv6: the node for the next one
	nodes  []trieNode
	all    []interval
	values []*ranged // 0 is nil
}

// trieNode is where its intervals are.
type trieNode struct{ first, n uint32 }

// interval is from a word to where the next one begins.
type interval struct {
	from uint32
	to   target
}

// target is what a trie's interval leads to: a value, or, at odd numbers, a node for the next word.
type target uint32

func valueAt(i int) target { return target(i) << 1 }
func nodeAt(i int) target  { return target(i)<<1 | 1 }

// lookup gives the value of the longest prefix, or nil.
func (t *trie) lookup(k key) *ranged {
	if k.is4() {
		w := uint32(k.lo)
		first := t.top[w>>16]
		last := t.top[w>>16+1]
		return t.values[t.search(trieNode{first, last - first + 1}, w)>>1]
	}
	first := k.word(0)
	to := t.next(first)
	if to == 0 {
		to = t.search(t.roots[1], first)
	}
	for i := 1; to&1 != 0; i++ {
		to = t.search(t.nodes[to>>1], k.word(i))
	}
	return t.values[to>>1]
}

// cut is where a first word leads to; 0 is nowhere.
type cut struct {
	word uint32
	to   target
}

// next finds the node that an IPv6 address's first word leads to, or 0. It is a short cut: a search
// finds the same.
func (t *trie) next(word uint32) target {
	for i := t.start(word); ; i++ {
		s := &t.cuts[i&(len(t.cuts)-1)]
		if s.to == 0 || s.word == word {
			return s.to
		}
	}
}

func (t *trie) start(word uint32) int { return int(uint64(word) * 0x9E3779B97F4A7C15 >> 40) }

// search finds the last interval that begins at or before a word. There always is one.
func (t *trie) search(n trieNode, w uint32) target {
	at := n.first
	for left := n.n; left > 1; {
		half := left / 2
		if mid := at + half; t.all[mid].from <= w { // a conditional move: which way cannot be foreseen
			at = mid
		}
		left -= half
	}
	return t.all[at].to
}

// prefix is a prefix with its value.
type prefix struct {
	netip.Prefix
	value *ranged
}

// newTrie builds a trie of prefixes, which are all different and in order.
func newTrie(prefixes []prefix) *trie {
	b := trieBuilder{trie: &trie{values: []*ranged{nil}}, known: map[*ranged]target{nil: 0}}
	split := 0
	for split < len(prefixes) && prefixes[split].Addr().Is4() {
		split++
	}
	b.roots = [2]trieNode{b.node(prefixes[:split], 0, 0), b.node(prefixes[split:], 0, 0)}
	b.index()
	return b.trie
}

type trieBuilder struct {
	*trie
	known map[*ranged]target
}

// node adds a node of prefixes that have all words before this one in common. Where none of them
// is, outer is the answer.
func (b *trieBuilder) node(prefixes []prefix, word int, outer target) trieNode {
	n := intervals{open: []opened{{end: math.MaxUint32 + 1, to: outer}}}
	n.add(0, outer)
	for len(prefixes) > 0 {
		p := prefixes[0]
		from := uint64(wordOf(p.Addr(), word))
		n.close(from)
		if left := 32*(word+1) - p.Bits(); left >= 0 {
			to := b.value(p.value)
			n.open = append(n.open, opened{from + 1<<left, to})
			n.add(from, to)
			prefixes = prefixes[1:]
			continue
		}
		same := 1
		for same < len(prefixes) && uint64(wordOf(prefixes[same].Addr(), word)) == from {
			same++
		}
		b.nodes = append(b.nodes, b.node(prefixes[:same], word+1, n.top().to))
		n.add(from, nodeAt(len(b.nodes)-1))
		n.add(from+1, n.top().to)
		prefixes = prefixes[same:]
	}
	n.close(math.MaxUint32)
	first := len(b.all)
	b.all = append(b.all, n.all...)
	return trieNode{uint32(first), uint32(len(n.all))}
}

func (b *trieBuilder) value(v *ranged) target {
	to, ok := b.known[v]
	if !ok {
		to = valueAt(len(b.values))
		b.values = append(b.values, v)
		b.known[v] = to
	}
	return to
}

// index fills in top and cuts.
func (b *trieBuilder) index() {
	root := b.all[b.roots[1].first:][:b.roots[1].n]
	b.cuts = make([]cut, 2<<bits.Len(uint(len(root))))
	for _, r := range root {
		if r.to&1 == 0 {
			continue
		}
		i := b.start(r.from)
		for b.cuts[i&(len(b.cuts)-1)].to != 0 {
			i++
		}
		b.cuts[i&(len(b.cuts)-1)] = cut{r.from, r.to}
	}
	b.top = make([]uint32, 1<<16+1)
	at, end := b.roots[0].first, b.roots[0].first+b.roots[0].n
	for i := range b.top {
		for at+1 < end && uint64(b.all[at+1].from) <= uint64(i)<<16 {
			at++
		}
		b.top[i] = at
	}
}

// intervals are those of a node that is being built, in order, and the prefixes around the place
// that has been reached, the narrowest last.
type intervals struct {
	all  []interval
	open []opened
}

// opened is a prefix, up to its end.
type opened struct {
	end uint64
	to  target
}

func (n *intervals) top() opened { return n.open[len(n.open)-1] }

// add begins an interval, in place of one that has no room.
func (n *intervals) add(from uint64, to target) {
	if from > math.MaxUint32 {
		return
	}
	if last := len(n.all) - 1; last >= 0 && n.all[last].from == uint32(from) {
		n.all[last].to = to
	} else if last < 0 || n.all[last].to != to {
		n.all = append(n.all, interval{uint32(from), to})
	}
}

// close ends the prefixes that do not reach beyond a place.
func (n *intervals) close(at uint64) {
	for n.top().end <= at {
		end := n.top().end
		n.open = n.open[:len(n.open)-1]
		n.add(end, n.top().to)
	}
}

// wordOf is a part of an address.
func wordOf(a netip.Addr, i int) uint32 {
	if a.Is4() {
		return keyOf(a).word(3)
	}
	return keyOf(a).word(i)
}
