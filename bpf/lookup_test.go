package bpf

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLookup finds every kind of tuple, whichever of its ends comes first.
func TestLookup(t *testing.T) {
	d := load(t, Options{Table: 64})
	send(t, d, 1, tcp(t, client, server, "S", 1, 0, 0))
	send(t, d, 1, udp6(t, "2001:db8::1", "2001:db8::2", 100, 53))
	send(t, d, 1, udp6(t, "2001:db8::2", "2001:db8::1", 54, 7000))
	all := entries(t, d)
	require.Len(t, all, 3)
	for _, e := range all {
		turned := e.Tuple
		turned.Addr[0], turned.Addr[1] = e.Addr[1], e.Addr[0]
		turned.Port[0], turned.Port[1] = e.Port[1], e.Port[0]
		for _, tuple := range []Tuple{e.Tuple, turned} {
			flow, err := d.Lookup(&tuple)
			require.NoError(t, err)
			require.Equal(t, e.Flow, flow)
		}
		for _, other := range []func(*Tuple){
			func(t *Tuple) { t.Port[0]++ }, func(t *Tuple) { t.Zone++ },
			func(t *Tuple) { t.Protocol++ }, func(t *Tuple) { t.Cites++ },
			func(t *Tuple) { t.Addr[0] = t.Addr[0].Next() },
		} {
			tuple := e.Tuple
			other(&tuple)
			flow, err := d.Lookup(&tuple)
			require.NoError(t, err)
			require.Zero(t, flow)
		}
	}
}

// TestLookupICMP: identifier and type stand where others have ports.
func TestLookupICMP(t *testing.T) {
	d := load(t, Options{Table: 64})
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	echo := Tuple{Addr: [2]netip.Addr{a, b}, Protocol: 1, ICMPType: 8, ICMPID: 7}
	cited := Tuple{Addr: [2]netip.Addr{a, b}, Protocol: 1, Cites: 17, Port: [2]uint16{53, 40000}}
	for i, tuple := range []Tuple{echo, cited} {
		k := weirKey4{Port: tuple.ports(), Proto: tuple.Protocol, Cites: tuple.Cites}
		k.Addr = [2]uint32{0x0100000a, 0x0200000a} // little-endian, as all our targets
		require.NoError(t, d.objs.Conns4.Put(&k, &weirConn4{Key: k, Id: uint64(i + 1)}))
		flow, err := d.Lookup(&tuple)
		require.NoError(t, err)
		require.EqualValues(t, i+1, flow)
	}
	all := entries(t, d)
	require.ElementsMatch(t, []Tuple{echo, cited}, []Tuple{all[0].Tuple, all[1].Tuple})
}
