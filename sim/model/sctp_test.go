package model

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
)

// Types of chunks.
const (
	data, sack, heartbeat, abort     = 0, 3, 4, 6
	shutdown, shutdownAck            = 7, 8
	cookieEcho, cookieAck, completed = 10, 11, 14
)

// chunk is a packet of an association and the state that it leads to.
type chunk struct {
	back bool
	kind uint8
	tag  uint32
	want conntrack.State
}

// association leads to established: the client's tag is 100, the server's 500.
func association(more ...chunk) []chunk {
	return append([]chunk{
		{there, chunkInit, 100, synSent},
		{back, chunkInitAck, 500, synReceived},
		{there, cookieEcho, 0, established},
	}, more...)
}

func TestSCTP(t *testing.T) {
	tests := []struct {
		name        string
		chunks      []chunk
		connections uint64
		initiator   flow.Role // of the first packet's sender
	}{
		{"a whole association", association(chunk{back, cookieAck, 0, established},
			chunk{there, data, 0, established}, chunk{back, sack, 0, established},
			chunk{there, shutdown, 0, closing}, chunk{back, shutdownAck, 0, lastAck},
			chunk{there, completed, 0, closed}, chunk{there, data, 0, closed}), 1,
			flow.RoleInitiator},
		{"shutdown by the server", association(chunk{back, shutdown, 0, closing},
			chunk{there, data, 0, closing}, chunk{back, shutdown, 0, closing},
			chunk{there, shutdownAck, 0, lastAck}, chunk{back, completed, 0, closed},
			chunk{back, abort, 0, closed}), 1, flow.RoleInitiator},
		{"shutdown by both", association(chunk{there, shutdown, 0, closing},
			chunk{back, shutdown, 0, lastAck}, chunk{there, shutdownAck, 0, lastAck},
			chunk{back, shutdownAck, 0, closed}), 1, flow.RoleInitiator},
		{"abort", association(chunk{back, heartbeat, 0, established},
			chunk{back, abort, 0, reset}, chunk{there, data, 0, reset}), 1, flow.RoleInitiator},
		{"refused", []chunk{{there, chunkInit, 100, synSent}, {back, abort, 0, reset}}, 1,
			flow.RoleInitiator},
		{"INIT again", []chunk{{there, chunkInit, 100, synSent}, {there, chunkInit, 100, synSent},
			{back, chunkInitAck, 500, synReceived}, {there, chunkInit, 100, synReceived},
			{back, chunkInitAck, 501, synReceived}, {there, cookieEcho, 0, established}}, 1,
			flow.RoleInitiator},
		{"restart", association(chunk{there, chunkInit, 101, synSent}), 2, flow.RoleInitiator},
		{"restart from the other side", association(chunk{back, chunkInit, 7, synSent}), 2,
			flow.RoleInitiator},
		{"both begin", []chunk{{there, chunkInit, 100, synSent},
			{back, chunkInit, 500, synReceived}, {there, chunkInitAck, 100, synReceived},
			{back, cookieEcho, 0, established}}, 1, flow.RoleInitiator},
		{"begins with INIT ACK", []chunk{{there, chunkInitAck, 500, synReceived},
			{back, cookieEcho, 0, established}}, 1, flow.RoleResponder},
		{"middle", []chunk{{there, data, 0, established}, {back, sack, 0, established}}, 1,
			flow.RoleUnknown},
		{"middle, SHUTDOWN ACK", []chunk{{there, shutdownAck, 0, closing},
			{back, completed, 0, closing}}, 1, flow.RoleUnknown},
		{"middle, ABORT", []chunk{{there, abort, 0, reset}}, 1, flow.RoleUnknown},
	}
	for _, tt := range tests {
		for _, b := range []between{v4, v4.back(), v6, v6.back()} {
			t.Run(tt.name+" "+b.src.String(), func(t *testing.T) {
				m := fresh(Config{})
				for i, c := range tt.chunks {
					require.Equal(t, c.want, m.exchange(b, int64(i), c), "chunk %d", i)
				}
				require.Equal(t, tt.connections, m.lastID)
				books(t, m)
				m.Stop(100)
				require.Equal(t, tt.initiator, roleOf(m.Flows(), b))
				books(t, m)
			})
		}
	}
}

// exchange sends a chunk, to the hook of its direction, and returns the state after it.
func (m *Model) exchange(b between, now int64, c chunk) conntrack.State {
	hook := in
	if c.back {
		b, hook = b.back(), out
	}
	size := 8
	if c.kind == chunkInit || c.kind == chunkInitAck {
		size = 20
	}
	m.Packet(hook, now, b.sctp(c.kind, c.tag, size))
	for _, c := range m.table {
		return c.state
	}
	return conntrack.StateNone
}

// A chunk's flags are those that it stands for; one without any changes nothing.
func TestChunkFlags(t *testing.T) {
	want := map[uint8]flow.TCPFlags{1: syn, 2: syn | ack, 6: rst, 7: fin, 8: fin | ack, 10: ack,
		11: ack, 14: ack}
	for kind := range 256 {
		m := fresh(Config{})
		m.Packet(in, 0, v4.sctp(uint8(kind), 1, 20))
		require.Equal(t, want[uint8(kind)], m.Flows()[0].Flags, "%d", kind)
	}
}
