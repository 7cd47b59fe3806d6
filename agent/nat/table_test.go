package nat

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func connection(id uint32, zone uint16, s [2]Tuple) *tracked {
	return &tracked{tuple: s, id: id, zone: zone}
}

// snat is a connection from 10.0.0.1 and a port that leaves as one from 192.0.2.1.
func snat(port int) [2]Tuple {
	return [2]Tuple{tuple(17, fmt.Sprintf("10.0.0.1:%d", port), "198.51.100.2:53"),
		tuple(17, fmt.Sprintf("192.0.2.1:%d", port), "198.51.100.2:53")}
}

// snat6 is the same over IPv6.
func snat6(port int) [2]Tuple {
	return [2]Tuple{tuple(17, fmt.Sprintf("[fd00::1]:%d", port), "[2001:db8::2]:53"),
		tuple(17, fmt.Sprintf("[2001:db8::fe]:%d", port), "[2001:db8::2]:53")}
}

// only is an Alive that knows one connection.
func only(one Tuple) Alive { return func(_ string, t Tuple) bool { return t == one } }

func TestTableFind(t *testing.T) {
	table := NewTable(10)
	require.True(t, table.Empty())
	s := snat(1000)
	table.add("a", 1, connection(7, 0, s))
	require.False(t, table.Empty())

	before, ok := table.Find("a", Before, s[Before], 11)
	require.True(t, ok)
	require.Equal(t, s, before.Tuple)
	after, ok := table.Find("a", After, s[After], 12)
	require.True(t, ok)
	require.Equal(t, before.ID, after.ID)
	require.Equal(t, [2]uint64{11, 12}, after.Flow)

	for _, miss := range []struct {
		namespace string
		side      Side
		tuple     Tuple
	}{{"b", Before, s[Before]}, {"a", After, s[Before]}, {"a", Before, s[After]}, {"a", Before, s[Before].Reverse()}} {
		_, ok := table.Find(miss.namespace, miss.side, miss.tuple, 99)
		require.False(t, ok, "%+v", miss)
	}
	table.add("b", 1, connection(7, 0, s))
	other, ok := table.Find("b", Before, s[Before], 0)
	require.True(t, ok)
	require.NotEqual(t, before.ID, other.ID, "another namespace's")
	require.Zero(t, other.Flow)
}

// TestTableReplace: a new connection on the same tuple has nothing of the old one.
func TestTableReplace(t *testing.T) {
	table := NewTable(10)
	s := snat(1000)
	table.add("a", 1, connection(7, 0, s))
	table.Find("a", Before, s[Before], 11)
	table.add("a", 1, connection(7, 0, s)) // told again
	got, _ := table.Find("a", Before, s[Before], 0)
	require.EqualValues(t, 11, got.Flow[Before])

	table.add("a", 1, connection(8, 0, s))
	next, _ := table.Find("a", Before, s[Before], 0)
	require.Zero(t, next.Flow)
	require.NotEqual(t, got.ID, next.ID)
	table.remove("a", connection(7, 0, s)) // of the old one, late
	table.Sweep(nobody)
	table.Sweep(nobody)
	_, ok := table.Find("a", Before, s[Before], 0)
	require.True(t, ok)

	table.add("a", 1, connection(9, 0, [2]Tuple{s[Before], s[Before]}))
	require.True(t, table.Empty(), "the new one is not translated")
}

// TestTableZones: the kernel's zones can hold one tuple several times.
func TestTableZones(t *testing.T) {
	table := NewTable(10)
	s := snat(1000)
	table.add("a", 1, connection(7, 1, s))
	table.add("a", 1, connection(8, 2, [2]Tuple{s[Before], s[Before]}))
	requireFound(t, table, s, true) // the other zone's says nothing of it
	table.remove("a", connection(8, 2, [2]Tuple{s[Before], s[Before]}))
	table.Sweep(nobody)
	table.Sweep(nobody)
	requireFound(t, table, s, true)
}

func requireFound(t *testing.T, table *Table, s [2]Tuple, want bool) {
	t.Helper()
	for side := range s {
		_, ok := table.Find("a", Side(side), s[side], 0)
		require.Equal(t, want, ok)
	}
}

// TestTableSameAfter: two connections can have one name after the translation, when one of them is
// gone. It stands for the later one.
func TestTableSameAfter(t *testing.T) {
	table := NewTable(10)
	first, second := snat(1000), snat(1000)
	second[Before].Src = second[Before].Src.Next()
	table.add("a", 1, connection(7, 0, first))
	table.remove("a", connection(7, 0, first))
	table.add("a", 1, connection(8, 0, second))
	for range 2 {
		got, ok := table.Find("a", After, first[After], 0)
		require.True(t, ok)
		require.Equal(t, second, got.Tuple)
		table.Sweep(nobody)
		table.Sweep(nobody)
	}
	require.Equal(t, 1, table.Stats().Translations)
}

func TestTableKeepsUntilLastRecord(t *testing.T) {
	for side := range 2 {
		table := NewTable(10)
		s := snat(1000)
		table.add("a", 1, connection(7, 0, s))
		for range 5 {
			table.Sweep(nobody)
		}
		requireFound(t, table, s, true) // the kernel holds it
		table.remove("a", connection(7, 0, s))
		for range 5 {
			table.Sweep(only(s[side]))
		}
		requireFound(t, table, s, true) // its connection is still in the agent's table
		table.Sweep(nobody)
		requireFound(t, table, s, false)
	}
}

func TestTableRetain(t *testing.T) {
	table := NewTable(10)
	stays, goes, elsewhere := snat(1), snat(2), snat(3)
	table.add("a", 1, connection(1, 0, stays))
	table.add("a", 1, connection(2, 0, goes))
	table.add("b", 1, connection(3, 0, elsewhere))
	table.add("a", 2, connection(1, 0, stays))
	table.retain("a", 2)
	table.Sweep(nobody)
	requireFound(t, table, goes, true)
	table.Sweep(nobody)
	requireFound(t, table, goes, false)
	requireFound(t, table, stays, true)
	require.Equal(t, 2, table.Stats().Translations)
}

// TestTableOrphans: when there is no room, connections that are gone make some. The counts are those
// of an egress and an ingress entry for each connection.
func TestTableOrphans(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) { testTableOrphans(t, snat) })
	t.Run("IPv6", func(t *testing.T) { testTableOrphans(t, snat6) })
}

func testTableOrphans(t *testing.T, snat func(int) [2]Tuple) {
	table := NewTable(2)
	lives, orphan, late := snat(1), snat(2), snat(3)
	table.add("a", 1, connection(1, 0, lives))
	table.add("a", 1, connection(2, 0, orphan))
	table.Sweep(nobody)
	require.Equal(t, Stats{Translations: 2}, table.Stats(), "there is no pressure")

	table.add("a", 1, connection(3, 0, late))
	require.EqualValues(t, 1, table.Stats().Lost)
	table.Sweep(only(lives[After]))
	want := Purge{EgressAlive: 1, IngressAlive: 1, EgressDeleted: 1, IngressDeleted: 1}
	require.Equal(t, Stats{Translations: 1, Lost: 1, Purges: want}, table.Stats())
	requireFound(t, table, lives, true)
	requireFound(t, table, orphan, false)

	table.Sweep(nobody)
	require.Equal(t, want, table.Stats().Purges, "the pressure is over")
	table.add("a", 1, connection(3, 0, late))
	requireFound(t, table, late, true)
	require.EqualValues(t, 1, table.Stats().Lost)
}

func TestTableLeavesOut(t *testing.T) {
	table := NewTable(2)
	s := snat(1)
	table.add("a", 1, &tracked{tuple: s, id: 1, dying: true})
	gre := [2]Tuple{{Src: s[0].Src, Dst: s[0].Dst, Protocol: 47}, {Src: s[1].Src, Dst: s[1].Dst, Protocol: 47}}
	table.add("a", 1, connection(2, 0, gre))
	require.True(t, table.Empty())
	require.Zero(t, table.Stats().Lost)
}
