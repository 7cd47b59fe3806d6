package labeler

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTrie holds a trie against a look at all prefixes, which are around the borders of words, one
// within another, and at both ends of what there is.
func TestTrie(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	bytes := []byte{0, 1, 0x7F, 0x80, 0xFE, 0xFF}
	address := func(v6 bool) netip.Addr {
		var b [16]byte
		for i := range b {
			b[i] = bytes[r.IntN(len(bytes))]
		}
		if v6 {
			b[0] = 0x26 // not an IPv4 address
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	for size := range 200 {
		known := map[netip.Prefix]*ranged{}
		var addresses []netip.Addr
		for range size {
			a := address(r.IntN(2) == 0)
			bits := []int{0, 1, 8, 24, 31, 32, 33, 48, 63, 64, 65, 96, 97, 127, 128}[r.IntN(15)]
			p := netip.PrefixFrom(a, min(bits, a.BitLen())).Masked()
			known[p] = &ranged{Range: Range{Name: fmt.Sprint(p)}}
			addresses = append(addresses, a, p.Addr(), p.Addr().Prev(), a.Next(), address(true), address(false))
		}
		var all []prefix
		for p, v := range known {
			all = append(all, prefix{p, v})
		}
		slices.SortFunc(all, func(a, b prefix) int { return a.Compare(b.Prefix) })
		trie := newTrie(all)
		for _, a := range addresses {
			if !a.IsValid() || a.Is4In6() {
				continue // beyond the ends
			}
			var want *ranged
			longest := -1
			for _, p := range all {
				if p.Contains(a) && p.Bits() > longest {
					want, longest = p.value, p.Bits()
				}
			}
			require.Same(t, want, trie.lookup(keyOf(a)), "%v in %v", a, all)
		}
	}
}
