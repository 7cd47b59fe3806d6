package conntrack

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

func TestStateNames(t *testing.T) {
	for _, s := range States() {
		text, err := s.MarshalText()
		require.NoError(t, err)
		var back State
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, s, back)
	}
	require.Equal(t, "invalid", State(200).String())
	kept := StateClosed
	require.EqualError(t, kept.UnmarshalText([]byte("invalid")), `unknown connection state "invalid"`)
	require.Equal(t, StateClosed, kept)
	require.LessOrEqual(t, len(States()), bpf.States)
}

// enum reads the constants of an enum of bpf/conn.h, in order.
func enum(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("../../bpf/conn.h")
	require.NoError(t, err)
	body := regexp.MustCompile(`(?s)\nenum ` + name + ` \{(.*?)\n\};`).FindSubmatch(text)
	require.NotNil(t, body, "no enum %s in bpf/conn.h", name)
	bare := regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(string(body[1]), "")
	var all []string
	for _, c := range strings.Split(bare, ",") {
		if c = strings.TrimSpace(c); c != "" {
			all = append(all, c)
		}
	}
	return all
}

// TestStatesAreThoseOfTheDatapath fails when the states here and in the C sources drift apart.
func TestStatesAreThoseOfTheDatapath(t *testing.T) {
	var want []string
	for _, s := range States() {
		want = append(want, "STATE_"+strings.ToUpper(strings.ReplaceAll(s.String(), "-", "_")))
	}
	want = append(want, fmt.Sprintf("STATE_SLOTS = %d", bpf.States))
	require.Equal(t, want, enum(t, "conn_state"))
}

// TestEndReasonsAreThoseOfTheDatapath does the same for the reasons of ends.
func TestEndReasonsAreThoseOfTheDatapath(t *testing.T) {
	require.Equal(t, []string{
		fmt.Sprintf("END_IDLE = %d", flow.EndIdle),
		fmt.Sprintf("END_DETECTED = %d", flow.EndDetected),
		fmt.Sprintf("END_NO_ROOM = %d", flow.EndResource),
	}, enum(t, "end_reason"))
}

func hookName(n uint16) flow.Hook { return flow.Hook{Interface: fmt.Sprintf("h%d", n)} }

func TestViewOf(t *testing.T) {
	low, high := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	tests := []struct {
		name      string
		addr      [2]netip.Addr
		port      [2]uint16
		initiator uint8
		src       int // leg
	}{
		{"leg 0 began", [2]netip.Addr{low, high}, [2]uint16{1, 2}, 0, 0},
		{"leg 1 began", [2]netip.Addr{low, high}, [2]uint16{1, 2}, 1, 1},
		{"unknown, lower first", [2]netip.Addr{low, high}, [2]uint16{9, 2}, bpf.UnknownInitiator, 0},
		{"unknown, lower second", [2]netip.Addr{high, low}, [2]uint16{1, 2}, bpf.UnknownInitiator, 1},
		{"unknown, by port", [2]netip.Addr{low, low}, [2]uint16{9, 2}, bpf.UnknownInitiator, 1},
		{"unknown, all equal", [2]netip.Addr{low, low}, [2]uint16{2, 2}, bpf.UnknownInitiator, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := bpf.Entry{Tuple: bpf.Tuple{Addr: test.addr, Port: test.port, Protocol: 6, Zone: 3},
				Flow: 5, State: uint8(StateClosed), Initiator: test.initiator,
				ErrorType: 3, ErrorCode: 1}
			e.Legs[0] = bpf.Leg{Count: bpf.Count{Packets: 1, Bytes: 10}, First: 1, Last: 2, Owner: 1}
			e.Legs[1] = bpf.Leg{Count: bpf.Count{Packets: 2, Bytes: 20}, First: 2, Last: 3, Owner: 2,
				Flags: uint8(flow.SYN), Hooks: [3]uint16{1, 0, 7}}
			view := View{Hooks: hookName, Now: 3 + int64(time.Second)}
			view.Lifetimes[StateClosed] = time.Second
			got := view.Of(&e)
			legs := []Leg{
				{Packets: 1, Bytes: 10, First: 1, Last: 2, Seen: []flow.Hook{hookName(1)}},
				{Packets: 2, Bytes: 20, First: 2, Last: 3, Flags: flow.SYN,
					Seen: []flow.Hook{hookName(2), hookName(1), hookName(7)}},
			}
			require.Equal(t, Entry{Flow: 5, Zone: 3, Protocol: 6,
				Src: test.addr[test.src], Dst: test.addr[1-test.src],
				SrcPort: test.port[test.src], DstPort: test.port[1-test.src],
				Known: test.initiator != bpf.UnknownInitiator, State: StateClosed, ICMPError: "3/1",
				Idle: time.Second, Lifetime: time.Second,
				Forward: legs[test.src], Reverse: legs[1-test.src]}, got)

			view.Now++
			require.True(t, view.Of(&e).Expired, "longer than the lifetime, not as long as it")
		})
	}
}

func TestViewOfOneWay(t *testing.T) {
	e := bpf.Entry{State: uint8(StateUnreplied)}
	e.Legs[0] = bpf.Leg{Count: bpf.Count{Packets: 1}, Owner: 1, First: 5, Last: 5}
	e.Legs[1] = bpf.Leg{Last: 5} // the datapath sets the other leg's time, too
	got := View{Hooks: hookName, Now: 5}.Of(&e)
	require.Zero(t, got.Reverse)
	require.Nil(t, Seen(&e.Legs[1], hookName))
	require.Empty(t, got.ICMPError)
}
