package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

var errBroken = errors.New("no space left")

// served is a stage whose agent answers on a control socket.
type served struct {
	*stage
	socket string
}

func newServed(t *testing.T, change func(*Config)) *served {
	t.Helper()
	s := &served{socket: filepath.Join(t.TempDir(), "control.sock")}
	s.stage = newStage(t, change)
	stop, err := control.Serve(s.socket, s.agent)
	require.NoError(t, err)
	t.Cleanup(stop)
	return s
}

// ct runs `weir ct`.
func (s *served) ct(t *testing.T, args ...string) string {
	t.Helper()
	text, err := output(t, ConntrackCommand(), append(args, "--socket", s.socket)...)
	require.NoError(t, err, "%v", args)
	return text
}

// few sends packets of four connections, one of them answered, one reset.
func (s *served) few(t *testing.T) {
	t.Helper()
	back := *s.pair
	back.nearIP, back.farIP = s.farIP, s.nearIP
	s.send(t, s.udp(t, 1000, 53, 10), s.udp(t, 1000, 53, 10), back.udp(t, 53, 1000, 100),
		s.udp(t, 2000, 53, 0), s.tcp(t, 3000, 80, "S", 1, 0), s.tcp(t, 4000, 80, "S", 1, 0),
		s.tcp(t, 4000, 80, "R", 2, 0))
}

// sources are the source ports of what `list` or `export` lists as JSON, in order.
func sources(t *testing.T, text string) (ports []uint16) {
	t.Helper()
	var all []conntrack.Entry
	require.NoError(t, json.Unmarshal([]byte(text), &all))
	for i := range all {
		ports = append(ports, all[i].SrcPort)
	}
	return ports
}

func TestList(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	s.tick(t, 5*time.Second)
	s.send(t, s.udp(t, 2000, 53, 0))
	s.tick(t, 16*time.Second) // what was reset has expired
	for flags, want := range map[string][]uint16{
		"":                              {1000, 2000, 3000, 4000},
		"--protocol udp":                {1000, 2000},
		"--protocol 6":                  {3000, 4000},
		"--state replied,reset":         {1000, 4000},
		"--port 80":                     {3000, 4000},
		"--port 2000,80":                {2000, 3000, 4000},
		"--src 10.0.0.1":                {1000, 2000, 3000, 4000},
		"--src 10.0.0.2":                nil,
		"--dst 10.0.0.0/30 --port 1000": {1000},
		"--address 10.0.0.2":            {1000, 2000, 3000, 4000},
		"--address 192.0.2.0/24":        nil,
		"--zone 0":                      {1000, 2000, 3000, 4000},
		"--zone 1":                      nil,
		"--family 4":                    {1000, 2000, 3000, 4000},
		"--family 6":                    nil,
		"--expired":                     {4000},
		"--expired=false":               {1000, 2000, 3000},
		"--idle 12s":                    {1000, 3000, 4000},
	} {
		got := sources(t, s.ct(t, append(strings.Fields("list -o json "+flags), "--sort", "src")...))
		require.Equal(t, want, got, flags)
		lines := strings.Count(s.ct(t, append([]string{"export"}, strings.Fields(flags)...)...), "\n")
		require.Equal(t, len(want), lines, "export %s", flags)
	}
	require.Equal(t, []uint16{1000, 4000}, sources(t, s.ct(t, "list", "-o", "json", "--sort", "bytes", "--top", "2")))
	var all []conntrack.Entry
	require.NoError(t, json.Unmarshal([]byte(s.ct(t, "list", "-o", "json", "--flow", "1,2,3,4,5,6,7,8,9")), &all))
	require.NotEmpty(t, all)
	table := s.ct(t, "list", "--watch", "100ms", "--count", "2")
	require.Equal(t, 2, strings.Count(table, "PROTO"))
	require.Equal(t, 2, strings.Count(table, "10.0.0.1:3000"))
	require.Equal(t, 2, strings.Count(s.ct(t, "list", "--watch", "100ms", "--count", "2", "-o", "json"), "\n"), "a line each")
	s.balanced(t)
}

// TestSortOrders: by each key the second entry comes first.
func TestSortOrders(t *testing.T) {
	leg := func(packets uint64, first int64) conntrack.Leg {
		return conntrack.Leg{Packets: packets, Bytes: 100 * packets, First: first}
	}
	low, high := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	entries := []conntrack.Entry{
		{Src: high, Dst: low, DstPort: 2, State: conntrack.StateClosed, Idle: 4, Lifetime: 5, Forward: leg(3, 9)},
		{Src: low, Dst: low, DstPort: 1, State: conntrack.StateSynSent, Idle: 5, Lifetime: 7, Forward: leg(2, 8), Reverse: leg(2, 10)},
	}
	for _, key := range sortKeys() {
		require.Positive(t, sortOrders[key](&entries[0], &entries[1]), key)
		require.Negative(t, sortOrders[key](&entries[1], &entries[0]), key)
		require.Zero(t, sortOrders[key](&entries[0], &entries[0]), key)
	}
}

func TestGet(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	for _, ends := range [][]string{{"10.0.0.1:3000", "10.0.0.2:80"}, {"10.0.0.2:80", "10.0.0.1:3000"}} {
		var e conntrack.Entry
		require.NoError(t, json.Unmarshal([]byte(s.ct(t, "get", "tcp", ends[0], ends[1], "-o", "json")), &e))
		require.Equal(t, uint16(3000), e.SrcPort)
		require.Equal(t, conntrack.StateSynSent, e.State)
	}
	require.Contains(t, s.ct(t, "get", "udp", "10.0.0.1:1000", "10.0.0.2:53"), "replied")
	for _, args := range []string{"udp 10.0.0.1:3000 10.0.0.2:80", "tcp 10.0.0.1:3000 10.0.0.2:80 --zone 1",
		"icmp 10.0.0.1 10.0.0.2 --icmp-id 7"} {
		_, err := output(t, ConntrackCommand(), append([]string{"get", "--socket", s.socket}, strings.Fields(args)...)...)
		require.EqualError(t, err, "there is no such connection in the table", args)
	}
	s.balanced(t)
}

// TestDelete removes one connection, which is reported; its next packet opens another.
func TestDelete(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	require.Equal(t, "1 connections, of which 0 stay; removed: 1 forced\n", s.ct(t, "delete", "udp", "10.0.0.2:53", "10.0.0.1:1000"))
	require.Equal(t, []string{"1000>53: 2+0 replied forced", "53>1000: 1+0 replied forced"}, s.news())
	_, err := output(t, ConntrackCommand(), "delete", "udp", "10.0.0.2:53", "10.0.0.1:1000", "--socket", s.socket)
	require.EqualError(t, err, "there is no such connection in the table")
	s.send(t, s.udp(t, 1000, 53, 10))
	require.Equal(t, []uint16{1000, 2000, 3000, 4000}, sources(t, s.ct(t, "list", "-o", "json", "--sort", "src")))
	s.balanced(t)
	require.Contains(t, s.news(), "1000>53: 1+0 unreplied forced", "of it alone")
}

func TestFlush(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	require.Equal(t, "4 connections, of which 2 stay; removed: 2 forced\n", s.ct(t, "flush", "--port", "80"))
	require.Equal(t, []string{"3000>80: 1+0 syn-sent forced", "4000>80: 2+0 reset forced"}, s.news())
	s.tick(t, 40*time.Second) // 2000 has expired by now
	var done conntrack.Collected
	require.NoError(t, json.Unmarshal([]byte(s.ct(t, "flush", "--all", "-o", "json")), &done))
	require.Equal(t, map[flow.EndReason]uint64{flow.EndForced: 1, flow.EndIdle: 1}, done.Ended)
	require.Zero(t, done.Alive)
	require.Equal(t, []string{"1000>53: 2+0 replied forced", "2000>53: 1+0 unreplied idle", "53>1000: 1+0 replied forced"}, s.news())
	require.Empty(t, sources(t, s.ct(t, "list", "-o", "json")))
	s.balanced(t)
	require.Empty(t, s.ledger.wrong)
}

func TestGC(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	require.Equal(t, "4 connections, of which 4 stay; removed: none\n", s.ct(t, "gc"))
	s.tick(t, 11*time.Second)
	require.Equal(t, "4 connections, of which 3 stay; removed: 1 end-detected\n", s.ct(t, "gc"))
	require.Equal(t, []string{"4000>80: 2+0 reset end-detected"}, s.news())
	require.Equal(t, "3 connections, of which 2 stay; removed: 1 forced\n", s.ct(t, "gc", "--ahead", "20s"),
		"one would have expired by then")
	require.Equal(t, []string{"2000>53: 1+0 unreplied forced"}, s.news())
	require.Equal(t, "2 connections, of which 2 stay; removed: none\n", s.ct(t, "gc", "--address", "10.0.0.1@1"))
	require.Equal(t, "2 connections, of which 0 stay; removed: 2 forced\n", s.ct(t, "gc", "--address", "10.0.0.2,192.0.2.1"))
	s.balanced(t)
}

// TestStats: what was opened has ended or is there, whatever ends it.
func TestTableStats(t *testing.T) {
	s := newServed(t, func(c *Config) { c.Table.Size = 8 })
	s.few(t)
	s.at(t, 5*time.Second)
	stats := func() conntrack.Stats {
		t.Helper()
		var st conntrack.Stats
		require.NoError(t, json.Unmarshal([]byte(s.ct(t, "stats", "-o", "json")), &st))
		ended := uint64(0)
		for n := range maps.Values(st.Ended) {
			ended += n
		}
		require.Equal(t, st.Opened, ended+uint64(st.IPv4+st.IPv6))
		return st
	}
	st := stats()
	require.Equal(t, 4, st.IPv4)
	require.EqualValues(t, 4, st.Opened)
	require.InDelta(t, 0.5, st.Pressure(), 1e-9)
	require.Equal(t, 4, st.Ages[1].Count, "of up to 10 s")

	s.at(t, 16*time.Second) // the reset one has gone
	require.Equal(t, map[flow.EndReason]uint64{flow.EndDetected: 1}, stats().Ended)
	s.send(t, s.tcp(t, 3000, 80, "S", 500, 0)) // replaces
	s.ct(t, "flush", "--port", "1000")
	s.at(t, 21*time.Second)
	st = stats()
	require.Equal(t, map[flow.EndReason]uint64{flow.EndDetected: 2, flow.EndForced: 1}, st.Ended)
	require.EqualValues(t, 5, st.Opened)
	require.Equal(t, 2, st.IPv4)
	require.InDelta(t, 0.2, st.Rates.Opened, 1e-9)
	require.InDelta(t, 0.2, st.Rates.Ended[flow.EndForced], 1e-9)
	require.Contains(t, s.ct(t, "stats"), "25 % full")
	quick := s.ct(t, "stats", "--ages=false")
	require.NotContains(t, quick, "age")
	require.Contains(t, quick, "ended: forced")
	s.balanced(t)
}

// TestFullIsTold: packets that found no room, by the policy.
func TestFullIsTold(t *testing.T) {
	s := newStage(t, func(c *Config) { c.Table = Table{Size: 1, Full: fullReject} })
	s.send(t, s.udp(t, 1, 53, 0), s.udp(t, 2, 53, 0), s.udp(t, 2, 53, 0))
	st, err := s.agent.TableStats(false)
	require.NoError(t, err)
	require.Equal(t, bpf.Count{Packets: 2, Bytes: 84}, st.Full)
	s.balanced(t)
}

// TestWatch shows ends, once.
func TestWatch(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	client, seen := control.Dial(s.socket), []string{}
	err := client.Ends(t.Context(), func() { s.ct(t, "flush", "--all") }, func(e control.End) error {
		var b strings.Builder
		require.NoError(t, writeEnd(&b, &e, "table"))
		seen = append(seen, b.String())
		if len(seen) == 4 {
			return errEnough
		}
		return nil
	})
	require.ErrorIs(t, err, errEnough)
	slices.Sort(seen)
	require.Equal(t, []string{
		"forced tcp reset 10.0.0.1:4000 > 10.0.0.2:80 packets 2/0 bytes 108/0\n",
		"forced tcp syn-sent 10.0.0.1:3000 > 10.0.0.2:80 packets 1/0 bytes 54/0\n",
		"forced udp replied 10.0.0.1:1000 > 10.0.0.2:53 packets 2/1 bytes 104/142\n",
		"forced udp unreplied 10.0.0.1:2000 > 10.0.0.2:53 packets 1/0 bytes 42/0\n",
	}, seen)
	eventually(t, "the agent to forget the reader", func() bool {
		s.agent.mu.Lock()
		defer s.agent.mu.Unlock()
		return len(s.agent.sweeper.rec.ends.observers) == 0
	})
	s.balanced(t)
}

func TestExportIsLines(t *testing.T) {
	s := newServed(t, nil)
	s.few(t)
	scan, n := bufio.NewScanner(strings.NewReader(s.ct(t, "export"))), 0
	for ; scan.Scan(); n++ {
		var e conntrack.Entry
		require.NoError(t, json.Unmarshal(scan.Bytes(), &e))
	}
	require.Equal(t, 4, n)
	s.balanced(t)
}

func TestConntrackCommandsRefuse(t *testing.T) {
	for args, want := range map[string]string{
		"list -o xml":                                "--output xml: want table or json",
		"list --sort size":                           "--sort size: want age, bytes, dst, idle, left, packets, src, state",
		"list --watch 1ms":                           "--watch 1ms, --count 0, --top 0: want at least 100ms, and 0 or more",
		"list --protocol foo":                        `--protocol: "foo" is no protocol; want tcp, udp,`,
		"list --state open":                          `--state: "open" is no state; there are syn-sent,`,
		"list --address 10.0.0.1/8":                  `--address: "10.0.0.1/8" has bits behind its length; the prefix is 10.0.0.0/8`,
		"list --src here":                            `--src: "here" is no prefix; want`,
		"list --port 70000":                          "--port: 70000; want 1 to 65535",
		"list --family 5":                            "family: 5; want 4 or 6",
		"list --idle -1s":                            "idle_ns: -1000000000; want 0 or more",
		"list --flow x":                              `--flow: "x"; want a number above 0`,
		"flush":                                      "say which connections to remove",
		"flush --all --zone 1":                       "say which connections to remove",
		"gc --ahead -1s":                             "--ahead -1s: want 0 or more",
		"gc --address 10.0.0.1@x":                    `--address: "10.0.0.1@x"; want an address, or one in a zone`,
		"get tcp 10.0.0.1 x":                         `DESTINATION: "x"; want an address`,
		"get tcp x 10.0.0.1":                         `SOURCE: "x"; want an address`,
		"get foo 10.0.0.1 10.0.0.2":                  `PROTOCOL: "foo" is no protocol; want`,
		"get tcp 10.0.0.1 ::1":                       "src 10.0.0.1, dst ::1: want two addresses of one family",
		"get tcp 10.0.0.1 10.0.0.2 --icmp-id 1":      "--icmp-type, --icmp-id: only connections of ICMP have them",
		"get icmp 10.0.0.1 10.0.0.2 --icmp-type 8/x": `--icmp-type: "8/x"; want TYPE or TYPE/CODE`,
		"get icmp 10.0.0.1 10.0.0.2 --cites x":       `--cites: "x" is no protocol; want`,
		"delete udp 10.0.0.1":                        "accepts 3 arg(s), received 2",
		"stats":                                      "no agent listens",
	} {
		_, err := output(t, ConntrackCommand(), append(strings.Fields(args), "--socket", filepath.Join(t.TempDir(), "none"))...)
		require.ErrorContains(t, err, want, args)
	}
}
