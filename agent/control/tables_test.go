package control

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
)

func TestTablesRoundTrip(t *testing.T) {
	zone, tcp, live := uint16(7), uint8(6), false
	low, high := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	a := &fake{
		connections: []conntrack.Entry{{Flow: 1, Src: low, Dst: low}, {Flow: 2, Src: high, Dst: high}},
		collected: conntrack.Collected{Scanned: 3, Alive: 1, Ended: map[flow.EndReason]uint64{flow.EndForced: 2},
			Took: time.Millisecond},
		stats: conntrack.Stats{Size: 10, IPv4: 5, Exact: true, Ended: map[flow.EndReason]uint64{flow.EndIdle: 1},
			Rates: &conntrack.Rates{Over: 1, Opened: 2.5, Ended: map[flow.EndReason]float64{flow.EndIdle: .5}},
			Ages:  conntrack.NewAges()},
		zones: []Zone{{Number: 7, Interfaces: []string{"ns/eth0"}, Connections: 2}},
	}
	c, ctx := Dial(serve(t, a)), t.Context()

	f := conntrack.Filter{Zone: &zone, Family: 4, Protocol: &tcp, States: []conntrack.State{conntrack.StateClosed},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Src: netip.MustParsePrefix("10.0.0.0/24"),
		Dst: netip.MustParsePrefix("::/0"), Ports: []uint16{80}, Expired: &live, Idle: time.Second, Flows: []uint64{9},
		Tuple: &conntrack.Tuple{Protocol: 6, Src: low, Dst: low, SrcPort: 1, DstPort: 2}}
	var shown []conntrack.Entry
	require.NoError(t, c.Select(ctx, f, func(e *conntrack.Entry) error { shown = append(shown, *e); return nil }))
	require.Equal(t, a.connections, shown)
	require.Equal(t, f, a.filter, "every field goes over")

	order := conntrack.Collection{Expired: true, Ahead: time.Minute, Places: []conntrack.Place{{Addr: low, Zone: 7}}, Filter: &f}
	done, err := c.Collect(ctx, order)
	require.NoError(t, err)
	require.Equal(t, a.collected, done)
	require.Equal(t, order, a.collection)

	stats, err := c.TableStats(ctx, true)
	require.NoError(t, err)
	require.Equal(t, a.stats, stats)
	require.True(t, a.ages)
	_, err = c.TableStats(ctx, false)
	require.NoError(t, err)
	require.False(t, a.ages)
	zones, err := c.Zones(ctx)
	require.NoError(t, err)
	require.Equal(t, a.zones, zones)
}

func TestSelectEnds(t *testing.T) {
	c, ctx := Dial(serve(t, &fake{connections: []conntrack.Entry{}})), t.Context()
	require.NoError(t, c.Select(ctx, conntrack.Filter{}, nil), "of nothing, nothing is shown")
	full := errors.New("disk full")
	c = Dial(serve(t, &fake{connections: make([]conntrack.Entry, 3)}))
	require.ErrorIs(t, c.Select(ctx, conntrack.Filter{}, func(*conntrack.Entry) error { return full }), full)
}

func TestBadOrders(t *testing.T) {
	c, ctx := Dial(serve(t, &fake{})), t.Context()
	require.EqualError(t, c.Select(ctx, conntrack.Filter{Family: 5}, nil), "the agent answers: family: 5; want 4 or 6")
	_, err := c.Collect(ctx, conntrack.Collection{Filter: &conntrack.Filter{Tuple: &conntrack.Tuple{}}})
	require.ErrorContains(t, err, `tuple.src: "invalid IP"; want an address`)
}

// TestEnds: a reader sees all that there is room for, and is told of the rest.
func TestEnds(t *testing.T) {
	a := &fake{observers: make(chan func(conntrack.Event), 1)}
	c := Dial(serve(t, a))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	put := 3 * endsRoom
	ready := func() {
		tell := <-a.observers
		go func() {
			for i := range put {
				tell(conntrack.Event{Entry: conntrack.Entry{Flow: uint64(i + 1)}, Reason: flow.EndIdle})
			}
		}()
	}
	seen, missed, last := 0, 0, uint64(0)
	require.NoError(t, c.Ends(ctx, ready, func(e End) error {
		missed += int(e.Missed)
		if e.Event != nil {
			require.Greater(t, e.Entry.Flow, last)
			seen, last = seen+1, e.Entry.Flow
		}
		if seen+missed == put {
			cancel()
		}
		return nil
	}))
	require.Equal(t, put, seen+missed)
	require.GreaterOrEqual(t, seen, endsRoom)
	_, open := <-a.observers
	require.False(t, open, "and the agent is told that nobody reads any more")
}

func TestWaitingHasRoom(t *testing.T) {
	q := &waiting{news: make(chan struct{}, 1)}
	for range endsRoom + 5 {
		q.put(conntrack.Event{})
	}
	events, missed := q.take()
	require.Len(t, events, endsRoom)
	require.EqualValues(t, 5, missed)
	events, missed = q.take()
	require.Empty(t, events)
	require.Zero(t, missed)
}
