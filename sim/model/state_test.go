package model

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
)

const (
	fin, syn, rst, ack = flow.FIN, flow.SYN, flow.RST, flow.ACK

	synSent     = conntrack.StateSynSent
	synReceived = conntrack.StateSynReceived
	established = conntrack.StateEstablished
	closing     = conntrack.StateClosing
	lastAck     = conntrack.StateLastAck
	closed      = conntrack.StateClosed
	reset       = conntrack.StateReset
	unreplied   = conntrack.StateUnreplied
	replied     = conntrack.StateReplied
)

// seg is a segment of a conversation and the state that it leads to.
type seg struct {
	back    bool
	flags   flow.TCPFlags
	seq     uint32
	ack     uint32
	payload int
	want    conntrack.State
}

var (
	there = false
	back  = true
)

// handshake leads to established: the client's ISN is 100, the server's 500.
func handshake(more ...seg) []seg {
	return append([]seg{
		{there, syn, 100, 0, 0, synSent},
		{back, syn | ack, 500, 101, 0, synReceived},
		{there, ack, 101, 501, 0, established},
	}, more...)
}

// wrap is the last sequence number.
const wrap = 1<<32 - 1

// tcpTests are conversations with the state after each segment.
var tcpTests = []struct {
	name        string
	segments    []seg
	connections uint64
	initiator   flow.Role // of the first packet's sender
}{
	{"close by client", handshake(
		seg{there, ack, 101, 501, 120, established},
		seg{back, ack, 501, 221, 1400, established},
		seg{there, fin | ack, 221, 1901, 0, closing},
		seg{back, fin | ack, 1901, 222, 0, lastAck},
		seg{there, ack, 222, 1902, 0, closed},
		seg{there, ack, 222, 1902, 0, closed}), 1, flow.RoleInitiator},
	{"half close", handshake(
		seg{there, fin | ack, 101, 501, 0, closing},
		seg{back, ack, 501, 102, 0, closing},
		seg{back, ack, 501, 102, 1000, closing},
		seg{back, fin | ack, 1501, 102, 0, lastAck},
		seg{there, ack, 102, 1502, 0, closed}), 1, flow.RoleInitiator},
	{"both at once", handshake(
		seg{there, fin | ack, 101, 501, 0, closing},
		seg{back, fin | ack, 501, 101, 0, lastAck},
		seg{there, ack, 102, 502, 0, lastAck},
		seg{back, ack, 502, 102, 0, closed}), 1, flow.RoleInitiator},
	{"FIN with payload, acknowledged in part", handshake(
		seg{there, fin | ack, 101, 501, 10, closing},
		seg{back, fin | ack, 501, 111, 0, lastAck},
		seg{there, ack, 112, 502, 0, lastAck},
		seg{back, ack, 502, 112, 0, closed}), 1, flow.RoleInitiator},
	{"FIN sent again", handshake(
		seg{there, fin | ack, 101, 501, 0, closing},
		seg{there, fin | ack, 101, 501, 0, closing}), 1, flow.RoleInitiator},
	{"sequence numbers wrap", []seg{
		{there, syn, wrap - 1, 0, 0, synSent},
		{back, syn | ack, wrap, wrap, 0, synReceived},
		{there, ack, wrap, 0, 0, established},
		{there, fin | ack, wrap, 0, 0, closing}, // ends at 0
		{back, ack, 0, wrap, 0, closing},
		{back, fin | ack, 0, 0, 0, lastAck},
		{there, ack, 0, 1, 0, closed}}, 1, flow.RoleInitiator},
	{"RST", handshake(seg{back, rst, 501, 0, 0, reset},
		seg{there, ack, 101, 501, 0, reset},
		seg{there, fin | ack, 101, 501, 0, reset}), 1, flow.RoleInitiator},
	{"RST after close", handshake(
		seg{there, fin | ack, 101, 501, 0, closing},
		seg{back, fin | ack, 501, 102, 0, lastAck},
		seg{there, ack, 102, 502, 0, closed},
		seg{back, rst, 502, 0, 0, closed}), 1, flow.RoleInitiator},
	{"refused", []seg{{there, syn, 100, 0, 0, synSent}, {back, rst | ack, 0, 101, 0, reset}},
		1, flow.RoleInitiator},
	{"SYN retransmitted", []seg{{there, syn, 100, 0, 0, synSent},
		{there, syn, 100, 0, 0, synSent}, {back, syn | ack, 500, 101, 0, synReceived},
		{there, syn, 100, 0, 0, synReceived}, {back, syn | ack, 500, 101, 0, synReceived},
		{there, ack, 101, 501, 0, established}, {there, syn, 100, 0, 0, established},
		{back, syn | ack, 500, 101, 0, established}}, 1, flow.RoleInitiator},
	{"SYN with another ISN", []seg{{there, syn, 100, 0, 0, synSent},
		{there, syn, 101, 0, 0, synSent}}, 2, flow.RoleInitiator},
	{"port reuse", handshake(seg{there, syn, 9000, 0, 0, synSent},
		seg{back, syn | ack, 7000, 9001, 0, synReceived}), 2, flow.RoleInitiator},
	{"reuse from the other side", handshake(seg{back, syn, 9000, 0, 0, synSent}), 2,
		flow.RoleInitiator},
	{"reuse after RST", handshake(seg{there, rst, 101, 0, 0, reset},
		seg{there, syn, 9000, 0, 0, synSent}), 2, flow.RoleInitiator},
	{"retransmission in reset", handshake(seg{there, rst, 101, 0, 0, reset},
		seg{there, syn, 100, 0, 0, reset}), 1, flow.RoleInitiator},
	{"simultaneous open", []seg{{there, syn, 100, 0, 0, synSent},
		{back, syn, 500, 0, 0, synReceived}, {there, syn | ack, 100, 501, 0, synReceived},
		{back, syn | ack, 500, 101, 0, established}}, 1, flow.RoleInitiator},
	{"simultaneous open, plain ACKs", []seg{{there, syn, 100, 0, 0, synSent},
		{back, syn, 500, 0, 0, synReceived}, {there, ack, 101, 501, 0, synReceived},
		{back, ack, 501, 101, 0, established}}, 1, flow.RoleInitiator},
	{"begins with SYN and ACK", []seg{{there, syn | ack, 500, 101, 0, synReceived},
		{back, ack, 101, 501, 0, established}}, 1, flow.RoleResponder},
	{"SYN and ACK, then the SYN", []seg{{there, syn | ack, 500, 101, 0, synReceived},
		{back, syn, 100, 0, 0, synSent}}, 2, flow.RoleResponder},
	{"SYN and ACK alone twice", []seg{{there, syn | ack, 500, 101, 0, synReceived},
		{there, syn | ack, 500, 101, 0, synReceived}}, 1, flow.RoleResponder},
	{"SYN, then the same side's SYN and ACK", []seg{{there, syn, 100, 0, 0, synSent},
		{there, syn | ack, 100, 1, 0, synSent}}, 1, flow.RoleInitiator},
	{"answered by an ACK", []seg{{there, syn, 100, 0, 0, synSent},
		{back, ack, 500, 101, 0, synSent}, {there, ack, 101, 501, 0, synSent}}, 1,
		flow.RoleInitiator},
	{"answered by FIN", []seg{{there, syn, 100, 0, 0, synSent},
		{back, fin, 500, 101, 0, closing}}, 1, flow.RoleInitiator},
	{"middle", []seg{{there, ack, 1, 1, 10, established}, {back, ack, 1, 11, 0, established}},
		1, flow.RoleUnknown},
	{"middle, no flags", []seg{{there, 0, 1, 1, 10, established}}, 1, flow.RoleUnknown},
	{"middle, FIN", []seg{{there, fin | ack, 1, 1, 10, closing},
		{back, fin | ack, 1, 12, 0, lastAck}, {there, ack, 12, 2, 0, closed}}, 1,
		flow.RoleUnknown},
	{"middle, RST", []seg{{there, rst | fin, 1, 1, 0, reset}}, 1, flow.RoleUnknown},
	{"middle, then SYN", []seg{{there, ack, 1, 1, 0, established},
		{back, syn, 1, 1, 0, synSent}}, 2, flow.RoleUnknown},
	{"SYN with RST", []seg{{there, syn | rst, 1, 0, 0, reset},
		{there, syn | rst, 1, 0, 0, reset}}, 1, flow.RoleUnknown},
	{"RST before the window", handshake(
		seg{back, ack, 501, 301, 0, established},
		seg{there, rst, 300, 0, 0, established},
		seg{there, rst | ack, 300, 501, 0, established},
		seg{there, rst, 101 + 1<<31, 0, 0, established},
		seg{there, ack, 101, 501, 200, established},
		seg{there, rst, 301, 0, 0, reset}), 1, flow.RoleInitiator},
	{"RST beyond the window", handshake(
		seg{there, ack, 101, 501, 200, established},
		seg{there, rst, 302, 0, 0, established},
		seg{there, rst | syn, 302, 0, 0, established},
		seg{there, rst, 301, 0, 0, reset}), 1, flow.RoleInitiator},
	{"RST within the window", handshake(
		seg{there, ack, 101, 501, 200, established},
		seg{there, rst, 200, 0, 0, reset}), 1, flow.RoleInitiator},
	{"the window is that of the highest numbers", handshake(
		seg{there, ack, 301, 501, 200, established},
		seg{back, ack, 501, 501, 0, established},
		seg{there, ack, 101, 501, 200, established},
		seg{back, ack, 501, 301, 0, established},
		seg{there, rst, 500, 0, 0, established},
		seg{there, rst, 501, 0, 0, reset}), 1, flow.RoleInitiator},
	{"a RST moves no window", handshake(
		seg{there, rst, 102, 0, 50, established},
		seg{back, rst | ack, 400, 150, 0, established},
		seg{there, rst, 101, 0, 0, reset}), 1, flow.RoleInitiator},
	{"the window goes round", []seg{{there, syn, wrap, 0, 0, synSent},
		{back, syn | ack, wrap - 1, 0, 0, synReceived}, {there, ack, 0, wrap, 10, established},
		{back, ack, wrap, 10, 10, established}, {back, rst, wrap - 1, 0, 0, established},
		{back, rst, 10, 0, 0, established}, {there, rst, 11, 0, 0, established},
		{back, rst, 9, 0, 0, reset}}, 1, flow.RoleInitiator},
	{"RST of a side that sent nothing", []seg{{there, syn, 100, 0, 0, synSent},
		{back, rst, 77, 0, 0, reset}}, 1, flow.RoleInitiator},
	{"RST of a side that was acknowledged", []seg{{there, ack, 1, 500, 0, established},
		{back, rst, 499, 0, 0, established}, {back, rst, 1 << 30, 0, 0, reset}}, 1,
		flow.RoleUnknown},
	{"a FIN counts in the window", handshake(
		seg{there, fin | ack, 101, 501, 9, closing},
		seg{there, rst, 112, 0, 0, closing},
		seg{there, rst, 111, 0, 0, reset}), 1, flow.RoleInitiator},
	{"nothing moves the window after the FIN", handshake(
		seg{there, fin | ack, 101, 501, 0, closing},
		seg{there, ack, 102, 501, 100, closing},
		seg{there, rst, 103, 0, 0, closing},
		seg{back, fin | ack, 501, 102, 0, lastAck},
		seg{there, fin | ack, 900, 502, 0, closed}), 1, flow.RoleInitiator},
	{"the FIN comes before what it follows", handshake(
		seg{there, ack, 201, 501, 100, established},
		seg{there, fin | ack, 101, 501, 100, closing},
		seg{back, fin | ack, 501, 202, 0, lastAck},
		seg{there, ack, 301, 502, 0, lastAck},
		seg{back, ack, 502, 301, 0, closed}), 1, flow.RoleInitiator},
	{"a RST out of the window acknowledges nothing", []seg{{there, syn, 100, 0, 0, synSent},
		{back, syn | ack, 500, 101, 0, synReceived},
		{there, rst | ack, 99, 501, 0, synReceived}, {back, ack, 501, 101, 0, synReceived},
		{there, ack, 101, 501, 0, established}}, 1, flow.RoleInitiator},
	{"SYN with FIN", []seg{{there, syn | fin, 100, 0, 5, synSent},
		{back, syn | ack | fin, 500, 106, 0, lastAck}, {there, ack, 107, 502, 0, lastAck},
		{back, ack, 502, 107, 0, closed}},
		1, flow.RoleInitiator},
}

func TestTCP(t *testing.T) {
	for _, tt := range tcpTests {
		for _, b := range []between{v4, v4.back(), v6, v6.back()} {
			t.Run(tt.name+" "+b.src.String(), func(t *testing.T) {
				m := fresh(Config{})
				for i, s := range tt.segments {
					require.Equal(t, s.want, m.play(b, int64(i), s), "segment %d", i)
				}
				require.Equal(t, tt.connections, m.lastID)
				books(t, m)
				m.Stop(100)
				require.Equal(t, tt.initiator, roleOf(m.Flows(), b))
				require.Empty(t, m.Connections(100))
				books(t, m)
			})
		}
	}
}

// play sends a segment, to the hook of its direction, and returns the state after it.
func (m *Model) play(b between, now int64, s seg) conntrack.State {
	hook := in
	if s.back {
		b, hook = b.back(), out
	}
	m.Packet(hook, now, b.tcp(s.flags, s.seq, s.ack, s.payload))
	for _, c := range m.table {
		return c.state
	}
	return conntrack.StateNone
}

// roleOf is the role of the first flow that b's source sends.
func roleOf(flows []Flow, b between) flow.Role {
	for _, f := range flows {
		if f.Src == b.src.Addr() {
			return f.Role
		}
	}
	return ""
}

// Each state expires after its lifetime: at its end it is alive, a nanosecond later it is not.
func TestLifetimes(t *testing.T) {
	ends := func(segments ...seg) []seg { return segments }
	closeAll := handshake(seg{there, fin | ack, 101, 501, 0, closing},
		seg{back, fin | ack, 501, 102, 0, lastAck}, seg{there, ack, 102, 502, 0, closed})
	tests := []struct {
		state    conntrack.State
		segments []seg
		lifetime time.Duration
		reason   flow.EndReason
	}{
		{synSent, closeAll[:1], 120 * time.Second, flow.EndIdle},
		{synReceived, closeAll[:2], 60 * time.Second, flow.EndIdle},
		{established, closeAll[:3], 7440 * time.Second, flow.EndIdle},
		{closing, closeAll[:4], 120 * time.Second, flow.EndIdle},
		{lastAck, closeAll[:5], 30 * time.Second, flow.EndIdle},
		{closed, closeAll[:6], 10 * time.Second, flow.EndDetected},
		{reset, ends(seg{flags: rst}), 10 * time.Second, flow.EndDetected},
		{unreplied, nil, 30 * time.Second, flow.EndIdle},
		{replied, nil, 120 * time.Second, flow.EndIdle},
	}
	for _, tt := range tests {
		t.Run(tt.state.String(), func(t *testing.T) {
			m := fresh(Config{})
			for _, s := range tt.segments {
				m.play(v4, 0, s)
			}
			if tt.segments == nil {
				m.Packet(in, 0, v4.udp(1))
			}
			if tt.state == replied {
				m.Packet(out, 0, v4.back().udp(1))
			}
			at := int64(tt.lifetime)
			require.Equal(t, Lifetimes()[tt.state], tt.lifetime)
			m.Sweep(at)
			e := m.Connections(at)[0]
			require.Equal(t, tt.state, e.State)
			require.Equal(t, tt.lifetime, e.Lifetime)
			require.Equal(t, tt.lifetime, e.Idle)
			require.False(t, e.Expired)
			require.True(t, m.Connections(at + 1)[0].Expired)
			m.Sweep(at + 1)
			require.Empty(t, m.Connections(at+1))
			for _, f := range m.Flows() {
				require.Equal(t, tt.reason, f.Reason)
				require.Equal(t, tt.state, f.State)
			}
			books(t, m)
		})
	}
}

func TestOwnLifetimes(t *testing.T) {
	m := fresh(Config{Lifetimes: map[conntrack.State]time.Duration{unreplied: time.Second}})
	m.Packet(in, 0, v4.udp(1))
	require.True(t, m.Connections(second + 1)[0].Expired)
	m.Packet(out, second, v4.back().udp(1))
	require.False(t, m.Connections(2 * second)[0].Expired)
}
