package model

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

func TestEcho(t *testing.T) {
	for _, b := range []between{v4, v4.back(), v6, v6.back()} {
		m := fresh(Config{})
		m.Packet(in, 0, b.echo(1, false))
		m.Packet(out, 1, b.back().echo(1, true))
		m.Packet(in, 2, b.echo(2, false)) // another identifier is another connection
		e := m.Connections(2)
		require.Len(t, e, 2)
		require.Equal(t, replied, e[0].State)
		require.Equal(t, b.src.Addr(), e[0].Src)
		require.Equal(t, uint64(1), e[0].Reverse.Packets)
		require.Equal(t, unreplied, e[1].State)
		books(t, m)
	}
}

// A request from the other side with the same identifier is a packet in the other direction.
func TestEchoBothWays(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 0, v4.echo(1, false))
	m.Packet(in, 0, v4.back().echo(1, false))
	require.Len(t, m.Connections(0), 1)
	require.Equal(t, replied, m.Connections(0)[0].State)
}

func TestEqualEndpoints(t *testing.T) {
	for _, addr := range []string{"10.0.0.1", "2001:db8::1"} {
		self := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
		b := between{src: self, dst: self}
		m := fresh(Config{})
		m.Packet(in, 0, b.echo(1, false))
		m.Packet(in, 0, b.echo(1, false))
		m.Packet(in, 0, b.echo(1, true))
		e := m.Connections(0)
		require.Len(t, e, 1)
		require.Equal(t, []uint64{2, 1}, []uint64{e[0].Forward.Packets, e[0].Reverse.Packets})
		require.Equal(t, replied, e[0].State)

		m.Packet(in, 0, b.udp(1))
		m.Packet(in, 0, b.udp(1))
		e = m.Connections(0)
		require.Equal(t, uint64(2), e[1].Forward.Packets, "all else is one leg")
		require.Equal(t, unreplied, e[1].State)

		m = fresh(Config{}) // a connection that begins with the reply
		m.Packet(in, 0, b.echo(1, true))
		m.Packet(in, 0, b.echo(1, false))
		m.Packet(in, 0, b.echo(1, false))
		e = m.Connections(0)
		require.Equal(t, []uint64{2, 1}, []uint64{e[0].Forward.Packets, e[0].Reverse.Packets})

		m.Packet(in, 0, cited(b, ip(b.echo(1, true)), len(ip(b.echo(1, true)))))
		require.Len(t, m.Connections(0), 2)
		require.Equal(t, unreplied, m.Connections(0)[1].State)
		books(t, m)
	}
}

func TestErrorsBesideTheirConnection(t *testing.T) {
	for _, b := range []between{v4, v4.back(), v6, v6.back()} {
		m := fresh(Config{})
		m.Packet(in, 0, b.udp(10))
		inner := ip(b.udp(10))
		// A router on the way says so, not the destination.
		via := b.back()
		via.src = netip.MustParseAddrPort("192.0.2.1:1")
		want := "3/3"
		if b.src.Addr().Is6() {
			via.src = netip.MustParseAddrPort("[2001:db8::ff]:1")
			want = "1/4"
		}
		m.Packet(out, 1, cited(via, inner, len(inner)))
		m.Packet(out, 2, cited(via, inner, len(inner)))
		e := m.Connections(2)
		require.Len(t, e, 2)
		require.Equal(t, want, e[0].ICMPError)
		require.Equal(t, unreplied, e[0].State)
		require.Equal(t, int64(2), int64(e[0].Idle), "its times are its own")

		require.Equal(t, b.dst.Addr(), e[1].Src)
		require.Equal(t, b.src.Addr(), e[1].Dst)
		require.Equal(t, []uint16{b.dst.Port(), b.src.Port()},
			[]uint16{e[1].SrcPort, e[1].DstPort})
		require.Equal(t, uint8(17), e[1].Cites)
		require.Equal(t, unreplied, e[1].State)
		require.True(t, e[1].Known)

		// An error about the other direction is the other leg, and no reply.
		back := ip(b.back().udp(10))
		m.Packet(in, 3, cited(b, back, len(back)))
		e = m.Connections(3)
		require.Equal(t, uint64(1), e[1].Reverse.Packets)
		require.Equal(t, unreplied, e[1].State)
		books(t, m)
	}
}

func TestErrorAboutExpired(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 0, v4.udp(10))
	m.Packet(out, 31*second, cited(v4.back(), ip(v4.udp(10)), 28))
	require.Empty(t, m.Connections(31 * second)[0].ICMPError)
}

// The cited connection hears of an error that finds no room for itself.
func TestErrorWithoutRoom(t *testing.T) {
	m := fresh(Config{Table: 1})
	m.Packet(in, 0, v4.udp(10))
	require.Equal(t, Outcome{Lost, ReasonTableFull},
		m.Packet(out, 0, cited(v4.back(), ip(v4.udp(10)), 28)))
	require.Equal(t, "3/3", m.Connections(0)[0].ICMPError)
	require.Equal(t, "3/3", m.Flows()[0].ICMPError)
}

func TestErrorsCite(t *testing.T) {
	body := v6.tcp(ack, 1, 1, 0)[54:]
	tests := []struct {
		name  string
		b     between
		inner []byte
		want  Flow
	}{
		{"tcp", v4, v4.tcp(ack, 1, 1, 0), Flow{Cites: 6, SrcPort: 80, DstPort: 40000}},
		{"tcp6 behind extensions", v6, ext(v6, 6, body, hopByHop, routing, first),
			Flow{Cites: 6, SrcPort: 80, DstPort: 40000}},
		{"sctp", v4, v4.sctp(3, 1, 8), Flow{Cites: 132, SrcPort: 80, DstPort: 40000}},
		{"echo", v4, v4.echo(9, false), Flow{Cites: 1, ICMPType: 8, ICMPID: 9}},
		{"echo reply", v6, v6.echo(9, true), Flow{Cites: 58, ICMPType: 128, ICMPID: 9}},
		{"other ICMP", v4, v4.icmp(9, 16, [4]byte{1, 2}, nil),
			Flow{Cites: 1, ICMPType: 9, ICMPCode: 16}},
		{"an error", v4, cited(v4, ip(v4.udp(1)), 28), Flow{Cites: 1, ICMPType: 3, ICMPCode: 3}},
		{"gre", v4, v4.frame(layers.IPProtocolGRE), Flow{Cites: 47}},
		{"no next header", v6, ext(v6, 59, nil, options), Flow{Cites: 59}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := fresh(Config{})
			m.Packet(in, 0, tt.inner)
			m.Packet(out, 0, cited(tt.b.back(), ip(tt.inner), len(ip(tt.inner))))
			flows := m.Flows()
			require.Len(t, flows, 2)
			// An error's own connection has the tuple of what that one cites: it is not found.
			require.Equal(t, tt.name == "an error", flows[0].ICMPError == "")
			got := flows[1]
			require.Equal(t, tt.want, Flow{Cites: got.Cites, SrcPort: got.SrcPort,
				DstPort: got.DstPort, ICMPType: got.ICMPType, ICMPCode: got.ICMPCode,
				ICMPID: got.ICMPID})
			require.Equal(t, tt.b.dst.Addr(), got.Src)
			require.Equal(t, flow.RoleInitiator, got.Role)
			books(t, m)
		})
	}
}
