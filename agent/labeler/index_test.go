package labeler

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestIndex holds an index against a map, while addresses come and go.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x, want := newIndex(), map[key]int64{}
	check := func() {
		require.Equal(t, len(want), x.n)
		for k, from := range want {
			found := x.get(k)
			if found == nil || found.key != k || found.from != from {
				t.Fatalf("%v is lost", k)
			}
		}
		seen := 0
		for a := range x.all {
			if _, ok := want[a.key]; !ok {
				t.Fatalf("%v was not added", a.key)
			}
			seen++
		}
		require.Equal(t, len(want), seen)
	}
	for round := range 40 {
		grow := round%4 != 3
		for range 1000 {
			k := key{uint64(r.IntN(3)), uint64(r.IntN(20000))}
			_, known := want[k]
			switch {
			case known && (!grow || r.IntN(4) == 0):
				x.remove(k)
				delete(want, k)
				require.Nil(t, x.get(k))
			case !known && grow:
				want[k] = r.Int64()
				x.add(k).from = want[k]
			}
		}
		check()
	}
	for k := range want {
		x.remove(k)
		delete(want, k)
	}
	check()
}

// TestAddressSize: an address is a cache line, on which the speed of lookups depends.
func TestAddressSize(t *testing.T) {
	require.EqualValues(t, 64, unsafe.Sizeof(address{}))
}

func TestNumbers(t *testing.T) {
	var n numbers[string]
	a, b := n.add("a"), n.add("b")
	require.Equal(t, []uint32{1, 2}, []uint32{a, b})
	n.remove(a)
	require.Equal(t, a, n.add("c"))
	require.Equal(t, []string{"", "c", "b"}, n.all)
}

// TestNodeWithoutPods: a node's own labels follow it too.
func TestNodeWithoutPods(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	l := NewLabeler(Options{Clusters: []*Cluster{c}})
	zone := func() string {
		got, err := l.LabelFlow("", tcp("10.9.0.1:1", "9.9.9.9:1", "", ""))
		require.NoError(t, err)
		return got.Local.Zone
	}
	n := Node{UID: "n", Name: "n", Internal: addrs("10.9.0.1"), Zone: "a", From: 1}
	c.SetNode(n, 2)
	require.Equal(t, "a", zone())
	n.Zone = "b"
	c.SetNode(n, 3)
	require.Equal(t, "b", zone())
}

// TestVersionsStartAgain: labels of a version are not taken for those of one that has its number again.
func TestVersionsStartAgain(t *testing.T) {
	c := NewCluster(ClusterOptions{})
	l := NewLabeler(Options{Clusters: []*Cluster{c}})
	zones := func() (all []string) {
		for _, a := range []string{"10.9.0.1", "10.0.0.1", "10.0.0.2"} {
			f := tcp(a+":1", "9.9.9.9:1", "", "")
			f.Start, f.End = 5, 5
			got, err := l.LabelFlow("", f)
			require.NoError(t, err)
			all = append(all, got.Local.Zone)
		}
		return all
	}
	n := Node{UID: "n", Name: "n", Internal: addrs("10.9.0.1"), Zone: "a", From: 1}
	c.SetNode(n, 2)
	c.SetPod(pod("is", "10.0.0.1", 1, 0), 2)
	c.SetPod(pod("was", "10.0.0.2", 1, 8), 2)
	require.Equal(t, []string{"a", "a", "a"}, zones())
	c.version = math.MaxUint32
	n.Zone = "b"
	c.SetNode(n, 3)
	require.EqualValues(t, 1, c.version)
	require.Equal(t, []string{"b", "b", "b"}, zones())
}
