package oracle

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/nat"
	"github.com/weirnet/weir/bpf/kerneltest"
)

var (
	client = netip.MustParseAddr("10.0.0.1")
	server = netip.MustParseAddr("10.0.0.2")
	router = netip.MustParseAddr("192.0.2.1")
)

// ethernet is the link header of all packets here.
const ethernet = 14

// pair is a connection of which weir and the kernel say the same.
func pair() (conntrack.Entry, nat.Connection) {
	hook := []flow.Hook{{Namespace: "router", Interface: "eth0"}}
	e := conntrack.Entry{Src: client, Dst: server, SrcPort: 40000, DstPort: 80, Protocol: unix.IPPROTO_TCP,
		Known: true, State: conntrack.StateEstablished,
		Forward: conntrack.Leg{Packets: 2, Bytes: 100 + 2*ethernet, Seen: hook},
		Reverse: conntrack.Leg{Packets: 1, Bytes: 50 + ethernet, Seen: hook}}
	name := tupleOf(&e)
	return e, nat.Connection{Tuple: [2]nat.Tuple{name, name}, Replied: true, TCP: nat.TCPEstablished,
		Original: nat.Count{Packets: 2, Bytes: 100}, Reply: nat.Count{Packets: 1, Bytes: 50}}
}

// compare writes differences in one line each.
func compare(e []conntrack.Entry, k []nat.Connection, uncounted uint64) (lines []string) {
	for _, d := range Compare(e, k, Options{Uncounted: uncounted, Header: func(flow.Hook) uint64 { return ethernet }}) {
		lines = append(lines, fmt.Sprintf("%s %s%v", d.Kind, d.Record, d.Fields))
	}
	return lines
}

const named = "10.0.0.1:40000 > 10.0.0.2:80 protocol 6"

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(*conntrack.Entry, *nat.Connection)
		uncounted uint64
		want      []string
	}{
		"the same": {change: func(*conntrack.Entry, *nat.Connection) {}},
		"state": {change: func(e *conntrack.Entry, _ *nat.Connection) { e.State = conntrack.StateSynReceived },
			want: []string{"differs " + named + "[{state ESTABLISHED syn-received}]"}},
		"more in the kernel": {change: func(e *conntrack.Entry, _ *nat.Connection) { e.Forward.Packets-- },
			want: []string{"differs " + named + "[{original packets 2 1} {original bytes 100 114}]"}},
		"bytes": {change: func(e *conntrack.Entry, _ *nat.Connection) { e.Reverse.Bytes++ },
			want: []string{"differs " + named + "[{reply bytes 50 51}]"}},
		"more in weir": {change: func(e *conntrack.Entry, _ *nat.Connection) { e.Reverse.Packets++ },
			want: []string{"differs " + named + "[{reply packets 1 2}]",
				"differs left uncounted by the kernel[{packets 0 1}]"}},
		"more in weir, as expected": {change: func(e *conntrack.Entry, _ *nat.Connection) { e.Reverse.Packets++ },
			uncounted: 1},
		"uncounted expected in vain": {change: func(*conntrack.Entry, *nat.Connection) {}, uncounted: 2,
			want: []string{"differs left uncounted by the kernel[{packets 2 0}]"}},
		"turned round": {change: func(e *conntrack.Entry, _ *nat.Connection) { turn(e) },
			want: []string{"differs 10.0.0.2:80 > 10.0.0.1:40000 protocol 6[{initiator 10.0.0.1 10.0.0.2}]"}},
		"no initiator": {change: func(e *conntrack.Entry, _ *nat.Connection) { turn(e); e.Known = false }},
		"another port": {change: func(e *conntrack.Entry, _ *nat.Connection) { e.SrcPort++ },
			want: []string{"extra 10.0.0.1:40001 > 10.0.0.2:80 protocol 6[]", "missing " + named + "[]"}},
		"another name behind": {change: func(e *conntrack.Entry, k *nat.Connection) {
			e.Src, k.Tuple[nat.After].Src = router, router
		}},
	} {
		e, k := pair()
		c.change(&e, &k)
		require.Equal(t, c.want, compare([]conntrack.Entry{e}, []nat.Connection{k}, c.uncounted), name)
	}
}

func turn(e *conntrack.Entry) {
	e.Src, e.Dst, e.SrcPort, e.DstPort = e.Dst, e.Src, e.DstPort, e.SrcPort
	e.Forward, e.Reverse = e.Reverse, e.Forward
}

// What the kernel does not track is no difference where that is by design, and one elsewhere.
func TestUntracked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*conntrack.Entry)
		same   bool
	}{
		"nothing special": {func(*conntrack.Entry) {}, false},
		icmpErrors:        {func(e *conntrack.Entry) { e.Protocol, e.Cites = unix.IPPROTO_ICMP, unix.IPPROTO_UDP }, true},
		strayReset:        {func(e *conntrack.Entry) { e.State, e.Known = conntrack.StateReset, false }, true},
		refused: {func(e *conntrack.Entry) {
			e.State, e.Reverse.Flags = conntrack.StateReset, flow.RST|flow.ACK
		}, true},
		"reset after an answer": {func(e *conntrack.Entry) {
			e.State, e.Reverse.Flags, e.Reverse.Packets = conntrack.StateReset, flow.RST|flow.SYN, 2
		}, false},
	} {
		e, _ := pair()
		c.change(&e)
		require.Equal(t, c.same, compare([]conntrack.Entry{e}, nil, 0) == nil, name)
	}
}

// Two pings with one identifier, one each way.
func TestCrossedEcho(t *testing.T) {
	e, k := pair()
	e.Protocol, e.SrcPort, e.DstPort, e.ICMPType, e.ICMPID = unix.IPPROTO_ICMP, 0, 0, 8, 7
	e.State = conntrack.StateReplied
	there := tupleOf(&e)
	k.Tuple, k.TCP = [2]nat.Tuple{there, there}, nat.TCPNone
	back := k
	back.Tuple = [2]nat.Tuple{there.Reverse(), there.Reverse()}
	e.Forward.Packets, e.Forward.Bytes = 3, 150+3*ethernet
	e.Reverse.Packets, e.Reverse.Bytes = 3, 150+3*ethernet
	require.Empty(t, compare([]conntrack.Entry{e}, []nat.Connection{k, back}, 0))
}

// Each of weir's states agrees with some of the kernel's, and each of those with one of weir's.
func TestStates(t *testing.T) {
	covered := map[nat.TCPState]bool{}
	for s, all := range states {
		require.NotEmpty(t, all, s)
		for _, k := range all {
			covered[k] = true
		}
	}
	for k := nat.TCPSynSent; k <= nat.TCPSynSent2; k++ {
		require.True(t, covered[k], k)
	}
	for _, s := range conntrack.States() {
		replied, unreplied := nat.Connection{Replied: true}, nat.Connection{}
		other := agree(s, &replied) || agree(s, &unreplied)
		require.Equal(t, s != conntrack.StateNone, states[s] != nil || other, s)
	}
}

// The documentation lists what may differ, and all states.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/scenarios.md")
	require.NoError(t, err)
	for _, d := range Designs {
		require.Contains(t, string(text), fmt.Sprintf("| `%s` | %s | %s |", d.Name, d.What, d.Reason))
	}
	flat := strings.Join(strings.Fields(string(text)), " ")
	for s, all := range states {
		require.Contains(t, flat, fmt.Sprintf("`%s` %s", s, all[0]))
		for _, k := range all {
			require.Contains(t, flat, k.String())
		}
	}
}

func TestProbe(t *testing.T) {
	kerneltest.NeedRoot(t)
	runtime.LockOSThread() // never unlocked: the thread, and its namespace, die with the test
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	there, err := Probe()
	require.NoError(t, err)
	if !there {
		t.Skip("this kernel has no nf_tables or nf_conntrack")
	}
	const file = "/proc/sys/net/netfilter/nf_conntrack_acct"
	value, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "1\n", string(value))
}
