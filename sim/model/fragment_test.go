package model

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
)

// fragmented is an IPv4 frame with the given identification and place in its datagram.
func fragmented(frame []byte, id uint16, place uint16) []byte {
	return patch(frame, 18, byte(id>>8), byte(id), byte(place>>8), byte(place))
}

const more4 = 0x2000 // the flag of IPv4

// rest is a later fragment of b: 16 bytes of data and no header of its own.
func rest(b between, protocol layers.IPProtocol, id uint16) []byte {
	return fragmented(b.frame(protocol, gopacket.Payload(make([]byte, 16))), id, 8)
}

// header6 is an IPv6 fragment header.
func header6(id uint32, place uint16) []byte {
	h := binary.BigEndian.AppendUint16([]byte{44, 0}, place)
	return binary.BigEndian.AppendUint32(h, id)
}

// A later fragment belongs to the connection of the first one.
func TestFragmentsFollow(t *testing.T) {
	body := func(frame []byte) []byte { return ip(frame)[40:] }
	data := make([]byte, 16)
	tests := []struct {
		name         string
		first, later []byte
	}{
		{"udp", fragmented(v4.udp(24), 7, more4), rest(v4, 17, 7)},
		{"the last bit of the offset", fragmented(v4.udp(24), 7, more4),
			fragmented(v4.udp(24), 7, 1)},
		{"in the middle", fragmented(v4.udp(24), 7, more4), fragmented(v4.udp(24), 7, more4|4)},
		{"don't fragment", fragmented(v4.udp(24), 7, 0x4000|more4), rest(v4, 17, 7)},
		{"tcp", fragmented(v4.tcp(syn, 1, 0, 12), 7, more4), rest(v4, 6, 7)},
		{"sctp", fragmented(v4.sctp(1, 1, 20), 7, more4), rest(v4, 132, 7)},
		{"gre", fragmented(v4.frame(47), 7, more4), rest(v4, 47, 7)},
		{"request", fragmented(v4.echo(3, false), 7, more4), rest(v4, 1, 7)},
		{"reply", fragmented(v4.echo(3, true), 7, more4), rest(v4, 1, 7)},
		{"other ICMP", fragmented(v4.icmp(9, 16, [4]byte{}, nil), 7, more4), rest(v4, 1, 7)},
		{"udp6", ext(v6, 17, body(v6.udp(24)), header6(1<<20, 1)),
			ext(v6, 17, data, header6(1<<20, 8))},
		{"behind a header that follows the fragment's", ext(v6, 17, body(v6.udp(24)),
			header6(5, 1), options), ext(v6, 60, data, header6(5, 8))},
		{"before which a header stands", ext(v6, 17, body(v6.udp(24)), hopByHop, header6(5, 1)),
			ext(v6, 17, data, hopByHop, header6(5, 0x10))},
		{"another next header", ext(v6, 17, body(v6.udp(24)), header6(5, 1)),
			ext(v6, 99, data, header6(5, 8))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := fresh(Config{})
			require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 0, tt.later))
			require.Equal(t, Accounted, m.Packet(in, 1, tt.first).Fate)
			require.Equal(t, Accounted, m.Packet(in, 1+30*second, tt.later).Fate)
			require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 2+30*second, tt.later))
			flows := m.Flows()
			require.Len(t, flows, 1)
			require.Equal(t, uint64(2), flows[0].Packets)
			require.Equal(t, uint64(len(tt.first)+len(tt.later)), flows[0].Bytes)
			books(t, m)
		})
	}
}

// What does not make a fragment find its beginning.
func TestFragmentsApart(t *testing.T) {
	first := fragmented(v4.udp(24), 7, more4)
	other := v4
	other.src = netip.MustParseAddrPort("10.0.0.3:40000")
	body := ip(v6.udp(24))[40:]
	tests := []struct {
		name         string
		first, later []byte
	}{
		{"identification", first, rest(v4, 17, 8)},
		{"protocol", first, rest(v4, 6, 7)},
		{"source", first, rest(other, 17, 7)},
		{"direction", first, rest(v4.back(), 17, 7)},
		{"no more fragments", fragmented(v4.udp(24), 7, 0), rest(v4, 17, 7)},
		{"lost", fragmented(patch(v4.udp(24), 38, 0, 7), 7, more4), rest(v4, 17, 7)},
		{"later itself", fragmented(v4.udp(24), 7, more4|1), rest(v4, 17, 7)},
		{"an error", fragmented(cited(v4, ip(v4.udp(1)), 28), 7, more4), rest(v4, 1, 7)},
		{"identification 6", ext(v6, 17, body, header6(1<<16, 1)), ext(v6, 17, nil, header6(0, 8))},
		{"no more fragments 6", ext(v6, 17, body, header6(5, 0)), ext(v6, 17, nil, header6(5, 8))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := fresh(Config{})
			m.Packet(in, 0, tt.first)
			require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 0, tt.later))
			books(t, m)
		})
	}
}

func TestFragmentsOfZones(t *testing.T) {
	m := fresh(Config{Zones: map[flow.Hook]uint16{router: 7}, Hooks: []flow.Hook{in, out, router}})
	require.Equal(t, Outcome{Lost, ReasonNoHook},
		m.Packet(fifth, 0, fragmented(v4.udp(24), 7, more4)))
	require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 0, rest(v4, 17, 7)))
	m.Packet(in, 0, fragmented(v4.udp(24), 7, more4))
	require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(router, 0, rest(v4, 17, 7)))
	require.Equal(t, Observed, m.Packet(out, 0, rest(v4, 17, 7)).Fate, "any hook of the zone")
	require.Equal(t, Outcome{Lost, ReasonNoHook}, m.Packet(fifth, 0, rest(v4, 17, 7)))
	books(t, m)
}

// A first fragment is remembered whatever becomes of it, each time it is seen.
func TestFragmentsAreRemembered(t *testing.T) {
	m := fresh(Config{Table: 1})
	m.Packet(in, 0, v4.udp(1))
	other := fragmented(from(9).udp(24), 7, more4)
	require.Equal(t, Outcome{Lost, ReasonTableFull}, m.Packet(in, 0, other))
	require.Equal(t, Outcome{Lost, ReasonTableFull}, m.Packet(in, 0, rest(from(9), 17, 7)))

	m = fresh(Config{})
	m.Packet(in, 0, fragmented(v4.udp(24), 7, more4))
	require.Equal(t, Observed, m.Packet(router, second, fragmented(v4.udp(24), 7, more4)).Fate)
	require.Equal(t, Accounted, m.Packet(in, 31*second, rest(v4, 17, 7)).Fate)
	// The identification comes round again.
	m.Packet(in, 31*second, fragmented(from(9).udp(24), 7, more4))
	m.Packet(in, 31*second, rest(v4, 17, 7))
	require.Equal(t, uint64(2), m.Flows()[2].Packets)
	books(t, m)

	m.Stop(31 * second)
	require.Equal(t, Outcome{Lost, ReasonFragment}, m.Packet(in, 31*second, rest(v4, 17, 7)))
}

// The least recently used of too many datagrams is forgotten.
func TestFragmentsAreForgotten(t *testing.T) {
	m := fresh(Config{})
	for id := range uint16(maxDatagrams) {
		m.Packet(in, 0, fragmented(v4.udp(24), id, more4))
	}
	m.Packet(in, 0, rest(v4, 17, 0))                             // used
	m.Packet(in, 0, fragmented(v4.udp(24), 1, more4))            // and used
	m.Packet(in, 0, fragmented(v4.udp(24), maxDatagrams, more4)) // takes the place of 2
	for id, want := range []Fate{Accounted, Accounted, Lost, Accounted} {
		require.Equal(t, want, m.Packet(in, 0, rest(v4, 17, uint16(id))).Fate, "%d", id)
	}
	require.Len(t, m.fragments.at, maxDatagrams)
	require.Equal(t, maxDatagrams, m.fragments.order.Len())
}

// A later fragment that opens a connection stands where its first one would.
func TestFragmentOpens(t *testing.T) {
	short := map[conntrack.State]time.Duration{synSent: time.Second, unreplied: time.Second}
	m := fresh(Config{Lifetimes: short})
	m.Packet(in, 0, fragmented(v4.echo(3, true), 7, more4))
	m.Packet(in, 2*second, rest(v4, 1, 7))
	e := m.Connections(2 * second)
	require.Equal(t, uint64(2), e[0].Flow)
	require.Equal(t, v4.dst.Addr(), e[0].Src, "it answers a request that was not seen")

	for _, on := range []bool{true, false} {
		m = New(Config{MidStream: on, Lifetimes: short})
		m.Packet(in, 0, fragmented(v4.tcp(syn, 1, 0, 12), 7, more4))
		out := m.Packet(in, 2*second, rest(v4, 6, 7))
		if !on {
			require.Equal(t, Outcome{Lost, ReasonMidStream}, out)
			continue
		}
		require.Equal(t, established, m.Connections(2 * second)[0].State)
		require.Zero(t, m.Connections(2 * second)[0].Reverse.Flags)
	}
}

// A later fragment changes no number: its leg may still reset, the other's FIN is not
// acknowledged.
func TestFragmentHasNoNumbers(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 0, fragmented(v4.tcp(ack, 101, 501, 12), 7, more4))
	m.Packet(in, 0, rest(v4, 6, 7))
	m.Packet(in, 0, v4.tcp(rst, 113, 0, 0))
	require.Equal(t, reset, m.Connections(0)[0].State)
	require.Equal(t, uint64(3), m.Flows()[0].Packets)
	require.Equal(t, ack|rst, m.Flows()[0].Flags)

	m = fresh(Config{})
	m.Packet(in, 0, v4.tcp(syn|fin, 100, 0, 0))
	m.Packet(out, 0, fragmented(v4.back().tcp(syn, 1, 0, 12), 7, more4))
	require.Equal(t, synReceived, m.Connections(0)[0].State)
	m.Packet(out, 0, rest(v4.back(), 6, 7))
	require.Equal(t, closing, m.Connections(0)[0].State, "rule 3, as any other packet")
	books(t, m)
}
