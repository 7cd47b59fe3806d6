package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/doctor"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/talkers"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// output runs a command and returns what it prints.
func output(t testing.TB, c *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(context.Background())
	return out.String(), err
}

func TestStatusText(t *testing.T) {
	n := func(packets uint64) bpf.Count { return bpf.Count{Packets: packets} }
	hook := func(name string, dir flow.Direction, mode string, c bpf.Counters) control.HookCounters {
		return control.HookCounters{Hook: flow.Hook{Interface: name, Direction: dir}, Mode: mode, Counters: c}
	}
	old := hook("hook-3", "", bpf.TC, bpf.Counters{})
	old.Gone = true
	now := time.Unix(1000, 0)
	s := control.Status{Boot: "ab12", PID: 7, Since: now.Add(-90 * time.Second), Trouble: "it hangs",
		Table: control.Table{Size: 200, IPv4: 50},
		Features: []control.Feature{{Name: "drops", State: control.FeatureOff}, {Name: "rtt", State: control.FeatureOn, Lost: 4, Note: "no zones"},
			{Name: "nat", State: control.FeatureCannot, Reason: "no conntrack"}},
		Probes: []control.Probe{{Name: "iterator", Consequence: "slow"}, {Name: "coarse-clock", OK: true}},
		Counters: control.Counters{NoHook: n(1), Hooks: []control.HookCounters{
			hook("eth0", flow.Ingress, bpf.TCX, bpf.Counters{Seen: n(99), Accounted: n(90), Lost: map[string]bpf.Count{"not-ip": n(9)}}),
			hook("eth0", flow.Egress, bpf.TCX, bpf.Counters{}), old},
			Sinks: []export.Stats{{Name: "output", Sent: export.Count{Records: 5}},
				{Name: "far", Failing: true, Error: "refused", Spooled: true, Held: export.Count{Records: 3},
					Dropped: map[string]export.Count{"disk-full": {Records: 2}}}}}}
	s.Sweeps.Add(2*time.Millisecond, now, errors.New("no memory"))
	var b strings.Builder
	require.NoError(t, statusText(&b, &s, now))
	require.Equal(t, `Agent ab12, process 7, up for 1m30s: NOT HEALTHY: it hangs

Watched interfaces
  eth0: ingress and egress, attached by tcx
  1 hooks were taken off; what they have counted is below, too

Packets
  100 seen: 90 counted, 0 that another hook has counted
  nothing is left out
  9 lost, 9 %: not-ip
  1 lost, 1 %: no-hook

Connection tables, with room for 200 each
  IPv4: 50 connections, 25 % full
  IPv6: 0 connections, 0 % full
  1 sweeps, of which 1 failed; the last took 2ms
  the last sweep failed: no memory
  the kernel has no iterator: slow

Features
  drops: off: not configured
  rtt: on, no zones; 4 lost for want of room
  nat: OFF: cannot run here: no conntrack
  labels: off: not configured

Sinks
  output: in order
    5 records sent, 0 wait in memory, 0 sent again
  far: FAILING: refused
    0 records sent, 3 wait on disk, 0 sent again
    2 records DROPPED: disk-full
`, b.String())
}

// TestStatusAndFlows asks a running agent.
func TestStatusAndFlows(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	a, err := New(cfg, Options{})
	require.NoError(t, err)
	stop := run(t, a)
	client := control.Dial(cfg.Control)
	eventually(t, "the agent to answer", func() bool { _, err := client.Status(t.Context()); return err == nil })

	text, err := output(t, StatusCommand(), "--socket", cfg.Control)
	require.NoError(t, err)
	require.Contains(t, text, "  far/far0: ingress and egress, attached by ")
	text, err = output(t, StatusCommand(), "--socket", cfg.Control, "-o", "json")
	require.NoError(t, err)
	var s control.Status
	require.NoError(t, json.Unmarshal([]byte(text), &s))
	require.Len(t, s.Hooks, 2)

	load := p.flood(t, 3)
	lines := func(args ...string) (all []talkers.Talker) {
		text, err := output(t, FlowsCommand(), append(args, "--socket", cfg.Control, "--every", "200ms", "--count", "1", "-o", "json")...)
		require.NoError(t, err)
		scan := bufio.NewScanner(strings.NewReader(text))
		for scan.Scan() {
			var f talkers.Talker
			require.NoError(t, json.Unmarshal(scan.Bytes(), &f))
			all = append(all, f)
		}
		return all
	}
	eventually(t, "talkers", func() bool { return len(lines()) == 3 })
	require.Len(t, lines("--top", "2"), 2)
	require.Empty(t, lines("tcp"), "they are of UDP")
	table, err := output(t, FlowsCommand(), "udp", "--socket", cfg.Control, "--every", "200ms", "--count", "2")
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(table, "BIT/S"))
	require.Contains(t, table, "udp")
	load.end(t)
	require.NoError(t, stop())
}

func TestOperatorCommandsRefuse(t *testing.T) {
	for want, run := range map[string]func() (string, error){
		"--output xml: want text or json":  func() (string, error) { return output(t, StatusCommand(), "-o", "xml") },
		"--output yaml: want text or json": func() (string, error) { return output(t, DoctorCommand(), "-o", "yaml") },
		"--every 1ms":                      func() (string, error) { return output(t, FlowsCommand(), "--every", "1ms") },
		"no agent listens": func() (string, error) {
			return output(t, StatusCommand(), "--socket", filepath.Join(t.TempDir(), "none"))
		},
	} {
		_, err := run()
		require.ErrorContains(t, err, want)
	}
}

func TestMetricPrefixes(t *testing.T) {
	for v, want := range map[float64]string{0: "0.0", 999.9: "999.9", 999.96: "1.0k", 1.5e6: "1.5M", 2e9: "2.0G", 3e12: "3.0T", 4e15: "4000.0T"} {
		require.Equal(t, want, metric(v))
	}
}

func TestFindings(t *testing.T) {
	all := []doctor.Finding{{Check: "a", OK: true, Detail: "fine"}, {Check: "b", Detail: "no", Consequence: "worse"},
		{Check: "c", Needed: true, Detail: "no", Consequence: "nothing"}}
	var b strings.Builder
	require.NoError(t, findingsText(&b, all))
	require.Equal(t, `ok       a: fine
without  b: no
         so: worse
FAILS    c: no
         so: nothing
`, b.String())
	require.EqualError(t, verdict(all), "the agent cannot do its work here: c")
	require.NoError(t, verdict(all[:2]))
}

func TestDoctor(t *testing.T) {
	kerneltest.NeedRoot(t)
	text, err := output(t, DoctorCommand(), "-o", "json")
	require.NoError(t, err, text)
	var all []doctor.Finding
	require.NoError(t, json.Unmarshal([]byte(text), &all))
	for _, name := range Features() {
		require.Contains(t, text, `"feature `+name+`"`)
	}
}
