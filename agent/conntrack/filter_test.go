package conntrack

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf"
)

var (
	low  = netip.MustParseAddr("10.0.0.1")
	high = netip.MustParseAddr("10.0.0.2")
	six  = netip.MustParseAddr("2001:db8::1")
)

func sample() Entry {
	return Entry{Flow: 9, Zone: 7, Src: low, Dst: high, SrcPort: 1000, DstPort: 80, Protocol: 6,
		State: StateEstablished, Idle: 20 * time.Second, Lifetime: 30 * time.Second}
}

func TestFilterMatch(t *testing.T) {
	e := sample()
	of := e.Tuple()
	turned := of
	turned.Src, turned.Dst, turned.SrcPort, turned.DstPort = of.Dst, of.Src, of.DstPort, of.SrcPort
	other := of
	other.SrcPort++
	zone, noZone, tcp, udp, yes, no := uint16(7), uint16(0), uint8(6), uint8(17), true, false
	net := netip.MustParsePrefix
	for name, f := range map[string]struct{ fits, not Filter }{
		"zone":     {Filter{Zone: &zone}, Filter{Zone: &noZone}},
		"family":   {Filter{Family: 4}, Filter{Family: 6}},
		"protocol": {Filter{Protocol: &tcp}, Filter{Protocol: &udp}},
		"states":   {Filter{States: []State{StateReset, StateEstablished}}, Filter{States: []State{StateReset}}},
		"networks": {Filter{Networks: []netip.Prefix{net("10.0.0.2/32")}}, Filter{Networks: []netip.Prefix{net("10.0.0.4/30"), net("::/0")}}},
		"src":      {Filter{Src: net("10.0.0.1/32")}, Filter{Src: net("10.0.0.2/32")}},
		"dst":      {Filter{Dst: net("10.0.0.2/31")}, Filter{Dst: net("10.0.0.1/32")}},
		"ports":    {Filter{Ports: []uint16{80}}, Filter{Ports: []uint16{81}}},
		"expired":  {Filter{Expired: &no}, Filter{Expired: &yes}},
		"idle":     {Filter{Idle: 20 * time.Second}, Filter{Idle: 20*time.Second + 1}},
		"flows":    {Filter{Flows: []uint64{1, 9}}, Filter{Flows: []uint64{1}}},
		"tuple":    {Filter{Tuple: &of}, Filter{Tuple: &other}},
		"turned":   {Filter{Tuple: &turned}, Filter{Tuple: &Tuple{Protocol: 6}}},
		"two":      {Filter{Zone: &zone, Ports: []uint16{1000}}, Filter{Zone: &zone, Ports: []uint16{1}}},
	} {
		require.True(t, f.fits.Match(&e), name)
		require.False(t, f.not.Match(&e), name)
	}
	e.Idle = -1
	require.True(t, (&Filter{}).Match(&e), "nothing said is everything chosen")
}

// TestRemover: what has expired by the time, strictly; else what has an end in its zone; else what the
// filter chooses.
func TestRemover(t *testing.T) {
	for name, test := range map[string]struct {
		c    Collection
		goes bool
	}{
		"nothing":            {Collection{}, false},
		"not yet":            {Collection{Expired: true}, false},
		"ahead, as long as":  {Collection{Expired: true, Ahead: 10 * time.Second}, false},
		"ahead, longer":      {Collection{Expired: true, Ahead: 10*time.Second + 1}, true},
		"end in the zone":    {Collection{Places: []Place{{low, 7}}}, true},
		"the other end":      {Collection{Places: []Place{{six, 7}, {high, 7}}}, true},
		"end in another one": {Collection{Places: []Place{{low, 0}, {high, 8}}}, false},
		"filter":             {Collection{Filter: &Filter{}}, true},
		"another filter":     {Collection{Filter: &Filter{Family: 6}}, false},
	} {
		e := sample()
		require.Equal(t, test.goes, test.c.Remover()(&e), name)
	}
	e := sample()
	e.Idle = e.Lifetime + 1
	require.True(t, (&Collection{Expired: true}).Remover()(&e))
	require.False(t, (&Collection{Expired: true, Ahead: -2}).Remover()(&e), "it had not expired then")
}

func TestOnly(t *testing.T) {
	tuple := &Tuple{Protocol: 6}
	one := &Filter{Tuple: tuple}
	require.Equal(t, tuple, (&Collection{Filter: one}).Only())
	for _, c := range []Collection{{}, {Filter: &Filter{}}, {Filter: one, Expired: true},
		{Filter: one, Places: []Place{{low, 0}}}, {Filter: one, Survivor: func(*Entry) {}}} {
		require.Nil(t, c.Only())
	}
}

func TestCheckTuple(t *testing.T) {
	for want, tuple := range map[string]Tuple{
		`src: "invalid IP"; want an address`: {Dst: low},
		`dst: "fe80::1%eth0"; want`:          {Src: six, Dst: netip.MustParseAddr("fe80::1%eth0")},
		`src: "::ffff:10.0.0.1"; want`:       {Src: netip.MustParseAddr("::ffff:10.0.0.1"), Dst: six},
		"want two addresses of one family":   {Src: low, Dst: six},
	} {
		require.ErrorContains(t, tuple.Check(), want)
	}
	e := sample()
	tuple := e.Tuple()
	require.NoError(t, tuple.Check())
	require.Equal(t, bpf.Tuple{Addr: [2]netip.Addr{low, high}, Port: [2]uint16{1000, 80}, Zone: 7, Protocol: 6}, tuple.Key())
}

func TestAges(t *testing.T) {
	ages := NewAges()
	for _, age := range []time.Duration{0, time.Second, time.Second + 1, time.Hour, 24*time.Hour + 1, 1000 * time.Hour} {
		AddAge(ages, age)
	}
	var counts []int
	for _, b := range ages {
		counts = append(counts, b.Count)
	}
	require.Equal(t, []int{2, 1, 0, 0, 1, 0, 2}, counts)
	require.Zero(t, ages[len(ages)-1].UpTo)
}

func TestFirst(t *testing.T) {
	for want, e := range map[int64]Entry{
		3: {Forward: Leg{Packets: 1, First: 3}, Reverse: Leg{Packets: 1, First: 4}},
		4: {Forward: Leg{Packets: 1, First: 5}, Reverse: Leg{Packets: 1, First: 4}},
		5: {Forward: Leg{Packets: 1, First: 5}},
		6: {Reverse: Leg{Packets: 1, First: 6}},
	} {
		require.Equal(t, want, e.First())
	}
}
