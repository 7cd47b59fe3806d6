package model

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

// from is v4 with another source port.
func from(port uint16) between {
	return between{src: netip.AddrPortFrom(v4.src.Addr(), port), dst: v4.dst}
}

// A packet that finds its connection expired replaces it, however late garbage collection is.
func TestExpiredIsReplaced(t *testing.T) {
	m := fresh(Config{Table: 1})
	m.Packet(in, 0, v4.udp(1))
	m.Packet(in, 30*second, v4.udp(1))
	require.Len(t, m.Flows(), 1)
	// The table is full, but the place is there.
	require.Equal(t, Outcome{Fate: Accounted}, m.Packet(out, 60*second+1, v4.back().udp(1)))
	flows := m.Flows()
	require.Len(t, flows, 2)
	require.Equal(t, flow.EndIdle, flows[0].Reason)
	require.Equal(t, uint64(2), flows[0].Packets)
	require.Equal(t, v4.dst.Addr(), flows[1].Src)
	require.Equal(t, flow.RoleInitiator, flows[1].Role)
	require.Equal(t, unreplied, flows[1].State)
	books(t, m)
}

func TestEnds(t *testing.T) {
	m := fresh(Config{})
	for _, s := range handshake() {
		m.play(v4, 0, s)
	}
	m.Packet(in, 1, v4.tcp(syn, 9000, 0, 0)) // takes the tuple while the old one lives
	m.Packet(in, 1, v6.tcp(rst, 1, 1, 0))
	m.Packet(in, 1, v6.udp(1))
	m.Stop(10*second + 2)
	var got []flow.EndReason
	for _, f := range m.Flows() {
		got = append(got, f.Reason)
	}
	require.Equal(t, []flow.EndReason{flow.EndDetected, flow.EndDetected, // both legs of the old
		flow.EndForced, flow.EndDetected, flow.EndForced}, got)
	books(t, m)
}

func TestTableFull(t *testing.T) {
	fill := func(cfg Config) *Model {
		cfg.Table = 1
		m := fresh(cfg)
		m.Packet(in, 0, from(1).udp(1))
		m.Packet(in, 0, v6.udp(1)) // the other family has its own table
		require.Len(t, m.Connections(0), 2)
		return m
	}
	t.Run("reject", func(t *testing.T) {
		m := fill(Config{})
		want := Outcome{Lost, ReasonTableFull}
		require.Equal(t, want, m.Packet(in, 0, from(2).udp(1)))
		require.Equal(t, Outcome{Fate: Accounted}, m.Packet(in, 0, from(1).udp(1)))
		// An expired entry keeps its place until it is swept.
		require.Equal(t, want, m.Packet(in, 60*second, from(2).udp(1)))
		m.Sweep(60 * second)
		require.Equal(t, Outcome{Fate: Accounted}, m.Packet(in, 60*second, from(2).udp(1)))
		books(t, m)
	})
	t.Run("overflow", func(t *testing.T) {
		m := fill(Config{TableFull: Overflow})
		m.Packet(in, 1, from(2).tcp(syn, 1, 0, 0))
		m.Packet(out, 2, from(2).back().tcp(syn|ack, 1, 2, 0))
		m.Packet(in, 3, from(2).tcp(ack, 2, 2, 10))
		m.Packet(router, 3, from(2).tcp(ack, 2, 2, 10))
		flows := m.Flows()[:2]
		require.Equal(t, Flow{Src: v4.src.Addr(), Dst: v4.dst.Addr(), SrcPort: 2, DstPort: 80,
			Protocol: 6, Packets: 3, Bytes: 54 + 64 + 64, Flags: syn | ack, Start: 1, End: 3,
			Role: flow.RoleUnknown, Reason: flow.EndResource, Seen: []flow.Hook{in, router}, Written: 3},
			flows[0])
		require.Equal(t, v4.dst.Addr(), flows[1].Src)
		require.Equal(t, uint64(1), flows[1].Packets)
		books(t, m)
	})
	t.Run("overflow without a ring", func(t *testing.T) {
		m := fill(Config{TableFull: Overflow, RingFull: true})
		require.Equal(t, Outcome{Lost, ReasonTableFull}, m.Packet(in, 0, from(2).udp(1)))
		books(t, m)
	})
}

// Sweeps end the oldest unanswered connections, of the table that is too full.
func TestEvict(t *testing.T) {
	m := fresh(Config{Table: 10, TableFull: Evict})
	m.Packet(in, 0, v6.udp(1))
	m.Packet(in, 0, from(1).udp(1)) // answered
	m.Packet(out, 0, from(1).back().udp(1))
	m.Packet(in, 1, from(2).tcp(syn, 1, 0, 0)) // half open
	m.Packet(out, 1, from(2).back().tcp(syn|ack, 1, 2, 0))
	for i := range 8 {
		m.Packet(in, int64(9-i), from(uint16(3+i)).udp(1)) // the highest port is the oldest
	}
	m.Packet(in, 9, from(11).udp(1))
	require.Equal(t, flow.EndResource, m.Flows()[0].Reason, "no room for the last one")
	ended := func() (ports []uint16) {
		for _, f := range m.Flows() {
			if f.Connection > 0 && f.Reason == flow.EndResource && f.Role == flow.RoleInitiator {
				ports = append(ports, f.SrcPort)
			}
		}
		return ports
	}
	require.Empty(t, ended(), "before a sweep")
	m.Sweep(10)
	require.Equal(t, []uint16{2}, ended(), "the last word of the handshake is missing")
	m.Sweep(10)
	require.Len(t, m.Connections(10), 1+9, "nine of ten are few enough")
	m.Packet(in, 10, from(12).udp(1))
	m.Sweep(10)
	require.Equal(t, []uint16{2, 10}, ended())
	for port := range uint16(9) {
		m.Packet(out, 10, from(1+port).back().udp(1))
	}
	m.Packet(in, 10, from(13).udp(1))
	m.Packet(in, 10, from(14).udp(1))
	m.Sweep(10)
	require.Len(t, ended(), 3, "one of those that are left is unanswered")
	m.Stop(10)
	books(t, m)
}

// Where all have been answered nobody goes.
func TestEvictNobody(t *testing.T) {
	m := fresh(Config{Table: 2, TableFull: Evict})
	for port := range uint16(2) {
		m.Packet(in, 0, from(port).udp(1))
		m.Packet(out, 0, from(port).back().udp(1))
	}
	m.Sweep(0)
	require.Len(t, m.Connections(0), 2)
	m.Packet(in, 0, from(2).udp(1))
	require.Equal(t, flow.EndResource, m.Flows()[0].Reason)
	books(t, m)
}

func TestRingFull(t *testing.T) {
	m := fresh(Config{RingFull: true})
	m.Packet(in, 0, v4.udp(1))
	m.Packet(in, 0, v4.udp(2))
	lost := m.Packet(out, 200*second, v4.back().udp(4)) // would replace it
	require.Equal(t, Outcome{Lost, ReasonRingFull}, lost)
	require.Equal(t, map[Reason]Count{ReasonRingFull: {1, 46}}, m.Counters()[out].Lost)
	m.Stop(200 * second)
	flows := m.Flows()
	require.Len(t, flows, 1, "the connection stays")
	require.Equal(t, uint64(43+44), flows[0].Bytes)
	require.Equal(t, flow.EndIdle, flows[0].Reason)
	books(t, m)
}

func TestNoHook(t *testing.T) {
	m := fresh(Config{Hooks: []flow.Hook{in}})
	require.Equal(t, Outcome{Fate: Accounted}, m.Packet(in, 0, v4.udp(1)))
	require.Equal(t, Outcome{Lost, ReasonNoHook}, m.Packet(out, 0, v4.udp(1)))
	require.Equal(t, Outcome{Lost, ReasonNoHook}, m.Packet(out, 0, nil))
	books(t, m)
}

// Without picking up in mid-stream, only SYN and INIT open a connection, also on a tuple whose
// connection has expired.
func TestMidStream(t *testing.T) {
	refused, opened := Outcome{Lost, ReasonMidStream}, Outcome{Fate: Accounted}
	tests := []struct {
		name  string
		frame []byte
		want  Outcome
	}{
		{"SYN", v4.tcp(syn, 1, 0, 0), opened},
		{"SYN and ACK", v6.tcp(syn|ack, 1, 0, 0), opened},
		{"SYN and RST", v4.tcp(syn|rst, 1, 0, 0), opened},
		{"ACK", v4.tcp(ack, 1, 0, 0), refused},
		{"RST", v6.tcp(rst, 1, 0, 0), refused},
		{"no flags", v4.tcp(0, 1, 0, 0), refused},
		{"INIT", v4.sctp(1, 1, 20), opened},
		{"INIT ACK", v4.sctp(2, 1, 20), opened},
		{"DATA", v6.sctp(0, 1, 16), refused},
		{"ABORT", v4.sctp(6, 1, 4), refused},
		{"UDP", v4.udp(1), opened},
		{"an error about TCP", cited(v4, ip(v4.tcp(ack, 1, 0, 0)), 28), opened},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := New(Config{Table: 1})
			require.Equal(t, tt.want, m.Packet(in, 0, tt.frame))
			books(t, m)
			m = New(Config{Table: 1})
			m.Packet(in, 0, v4.udp(9))
			m.Packet(in, 0, v6.udp(9))
			if tt.want == refused {
				require.Equal(t, refused, m.Packet(in, 0, tt.frame), "before there is no room")
			}
			require.Equal(t, opened, fresh(Config{}).Packet(in, 0, tt.frame))
		})
	}

	m := New(Config{})
	m.Packet(in, 0, v4.tcp(syn, 1, 0, 0))
	m.Packet(in, second, v4.tcp(ack, 2, 0, 0))
	require.Equal(t, refused, m.Packet(in, 122*second, v4.tcp(ack, 2, 0, 0)))
	require.Equal(t, refused, m.Packet(router, 122*second, v4.tcp(ack, 2, 0, 0)))
	require.True(t, m.Connections(122 * second)[0].Expired, "it stays until it is swept")
	require.Equal(t, uint64(2), m.Flows()[0].Packets)
	require.Equal(t, opened, m.Packet(in, 122*second, v4.tcp(syn, 2, 0, 0)))
	require.Equal(t, uint64(2), m.lastID)
	books(t, m)
}

func TestZones(t *testing.T) {
	m := fresh(Config{Zones: map[flow.Hook]uint16{router: 7}})
	m.Packet(in, 0, v4.udp(1))
	require.Equal(t, Outcome{Fate: Accounted}, m.Packet(router, 0, v4.udp(1)))
	entries := m.Connections(0)
	require.Len(t, entries, 2)
	require.Equal(t, []uint16{0, 7}, []uint16{entries[0].Zone, entries[1].Zone})
}

// One leg is counted at one hook, whichever others its packets pass.
func TestObserved(t *testing.T) {
	m := fresh(Config{})
	hooks := []flow.Hook{in, out, router, uplink, fifth}
	for i := range 3 {
		for _, h := range hooks {
			m.Packet(h, int64(i), v4.tcp(syn, 1, 0, 0))
		}
		for _, h := range []flow.Hook{fifth, in} {
			m.Packet(h, int64(i), v4.back().tcp(syn|ack, 1, 2, 0))
		}
	}
	flows := m.Flows()
	require.Equal(t, uint64(3), flows[0].Packets)
	require.Equal(t, []flow.Hook{in, out, router, uplink}, flows[0].Seen)
	require.Equal(t, []flow.Hook{fifth, in}, flows[1].Seen)
	require.Equal(t, uint64(3), m.Counters()[out].Observed.Packets)
	books(t, m)
}

// What the owner has seen already changes nothing at other hooks.
func TestObservedChangesNoState(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 0, v4.tcp(syn, 1, 0, 0))
	m.Packet(router, 1, v4.tcp(rst, 1, 0, 0))
	m.Packet(router, 2, v4.tcp(syn, 77, 0, 0))
	e := m.Connections(2)[0]
	require.Equal(t, synSent, e.State)
	require.Equal(t, time.Duration(2), e.Idle)
	require.Equal(t, syn, e.Forward.Flags)
	// The other leg has no owner yet: there, any hook is the first.
	m.Packet(router, 3, v4.back().tcp(rst, 1, 0, 0))
	require.Equal(t, reset, m.Connections(3)[0].State)
	books(t, m)
}

func TestTakeover(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 0, v4.udp(1))
	require.Equal(t, Observed, m.Packet(router, second, v4.udp(1)).Fate)
	require.Equal(t, Accounted, m.Packet(router, second+1, v4.udp(1)).Fate)
	require.Equal(t, []flow.Hook{router, in}, m.Flows()[0].Seen)
	require.Equal(t, Observed, m.Packet(in, second+2, v4.udp(1)).Fate)
	for _, h := range []flow.Hook{out, uplink, fifth} {
		m.Packet(h, second+2, v4.udp(1))
	}
	require.Equal(t, []flow.Hook{router, in, out, uplink}, m.Flows()[0].Seen)
	require.Equal(t, Accounted, m.Packet(fifth, 3*second, v4.udp(1)).Fate)
	require.Equal(t, []flow.Hook{fifth, in, out, uplink}, m.Flows()[0].Seen, "the list is full")
	require.Equal(t, Accounted, m.Packet(out, 5*second, v4.udp(1)).Fate)
	require.Equal(t, []flow.Hook{out, in, uplink, fifth}, m.Flows()[0].Seen)
	books(t, m)
}

// The packet that takes a leg over and opens a new connection belongs to the new one alone.
func TestTakeoverByNewConnection(t *testing.T) {
	m := fresh(Config{Takeover: time.Millisecond})
	m.Packet(in, 0, v4.tcp(syn, 1, 0, 0))
	m.Packet(router, second, v4.tcp(syn, 2, 0, 0))
	flows := m.Flows()
	require.Equal(t, []flow.Hook{in}, flows[0].Seen)
	require.Equal(t, []flow.Hook{router}, flows[1].Seen)
	books(t, m)
}

func TestConnections(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 5, v4.back().tcp(ack, 1, 1, 0)) // the higher endpoint, in mid-stream
	m.Packet(in, 6, v6.back().udp(0))
	m.Packet(out, 7, v6.udp(0))
	e := m.Connections(9)
	require.Equal(t, v4.src.Addr(), e[0].Src, "the lower endpoint")
	require.False(t, e[0].Known)
	require.Zero(t, e[0].Forward.Packets)
	require.Equal(t, uint64(1), e[0].Reverse.Packets)
	require.Equal(t, v6.dst.Addr(), e[1].Src, "the initiator")
	require.True(t, e[1].Known)
	require.Equal(t, time.Duration(2), e[1].Idle)
	require.Equal(t, replied, e[1].State)
	require.Equal(t, []flow.Hook{in}, e[1].Forward.Seen)
	require.Equal(t, []int64{6, 7}, []int64{e[1].Forward.First, e[1].Reverse.Last})
}

// What is handed out is the caller's.
func TestResultsAreCopies(t *testing.T) {
	m := fresh(Config{})
	m.Packet(in, 0, v4.udp(0))
	m.Packet(in, 0, nil)
	m.Flows()[0].Seen[0] = out
	m.Connections(0)[0].Forward.Seen[0] = out
	m.Counters()[in].Lost[ReasonNotIP] = Count{1, 1}
	require.Equal(t, []flow.Hook{in}, m.Flows()[0].Seen)
	require.Equal(t, map[Reason]Count{ReasonEthernet: {1, 0}}, m.Counters()[in].Lost)
	m.Stop(0)
	m.Flows()[0].Seen[0] = out
	require.Equal(t, []flow.Hook{in}, m.Flows()[0].Seen)
}
