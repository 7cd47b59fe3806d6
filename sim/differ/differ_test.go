package differ

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
)

func newDiffer(t testing.TB) *Differ {
	t.Helper()
	kerneltest.NeedRoot(t)
	d := New()
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// TestJobs is what runs in every guest.
func TestJobs(t *testing.T) {
	d := newDiffer(t)
	for _, job := range Jobs(nil) {
		t.Run(job.Name, func(t *testing.T) {
			require.True(t, IsJob(job))
			out := d.Run(t.Context(), job)
			var text strings.Builder
			require.NoError(t, result.DiffText(&text, out.Differences))
			if out.Verdict != result.Pass {
				t.Fatalf("%s: %s\n%s%s", out.Verdict, out.Reason, text.String(), out.AgentLog)
			}
			require.NotZero(t, out.Packets)
		})
	}
}

func TestJobsByName(t *testing.T) {
	jobs := Jobs(regexp.MustCompile("^vectors/ipv"))
	require.Equal(t, []runner.Job{{Name: "vectors/ipv4"}, {Name: "vectors/ipv6"}}, jobs)
	require.False(t, IsJob(runner.Job{Name: "tcp/vectors/x"}))
	out := New().Run(t.Context(), runner.Job{Name: "vectors/none"})
	require.Equal(t, result.Error, out.Verdict)
}

func TestFuzz(t *testing.T) {
	d := newDiffer(t)
	corpus, err := Corpus()
	require.NoError(t, err)
	f := Fuzz{Seed: uint64(time.Now().UnixNano()), Packets: 20_000, For: 10 * time.Second, Corpus: corpus}
	found, packets, err := f.Run(t.Context(), d)
	require.NoError(t, err)
	t.Logf("seed %d: %d packets", f.Seed, packets)
	if found != nil {
		files, err := found.Write(filepath.Join(os.TempDir(), "weir-fuzz"))
		require.NoError(t, err)
		t.Fatalf("case %d of seed %d differs: %s\n%s", found.Number, found.Seed, files, found.Vector())
	}
}

func TestFuzzEnds(t *testing.T) {
	d := newDiffer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, packets, err := Fuzz{Packets: 1}.Run(ctx, d)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, packets)
	calls := 0
	_, packets, err = Fuzz{For: time.Nanosecond, Progress: func(int) { calls++ }}.Run(t.Context(), d)
	require.NoError(t, err)
	require.LessOrEqual(t, packets, 2*drawnSteps)
}

// TestDrawIsRepeatable also tells that everything worth drawing is drawn.
func TestDrawIsRepeatable(t *testing.T) {
	corpus, err := Corpus()
	require.NoError(t, err)
	outcomes := map[string]int{}
	for n := range uint64(120) {
		c := Draw(7, n, corpus)
		require.Equal(t, c, Draw(7, n, corpus))
		s, err := play(newReference(c), c)
		require.NoError(t, err)
		for _, line := range s.Lines() {
			words := strings.Fields(line)
			if words[0] == "count" {
				outcomes[strings.Join(words[2:len(words)-1], " ")]++
				continue
			}
			for _, w := range words {
				outcomes[w]++
			}
		}
	}
	for _, want := range []string{"accounted", "observed", "expired", "error", "cites", "zone",
		"lost ethernet-header", "lost vlan-depth", "lost not-ip", "lost ipv4-header",
		"lost ipv4-length", "lost ipv6-header", "lost ipv6-length", "lost ipv6-extension",
		"lost fragment", "lost tcp-header", "lost udp-header", "lost icmp-header",
		"lost icmp-cited", "lost table-full", "lost ring-full", "lost no-hook",
		"syn-sent", "syn-received", "established", "closing", "last-ack", "closed", "reset",
		"unreplied", "replied", "idle", "end-detected", "lack-of-resources"} {
		require.NotZero(t, outcomes[want], want)
	}
}

// other is a case that both sides would see differently if one of them lost a packet.
func twoHooks() *Case {
	frame := filler(false)
	return &Case{Steps: []Step{{Hook: 1, Frame: frame}, {Hook: 2, Frame: frame, Wait: time.Second},
		{Kind: Report}, {Hook: 3, Frame: frame, Wait: 2 * time.Second, Tag: true},
		{Kind: Sweep, Wait: time.Hour}, {Hook: 9, Frame: frame}}}
}

func TestPlay(t *testing.T) {
	d := newDiffer(t)
	for range 2 { // nothing is left of the first time
		got, want, err := d.Play(twoHooks())
		require.NoError(t, err)
		require.Empty(t, Diff(want, got))
		require.Equal(t, []string{
			"ended tcp 127.0.0.1:1 > 127.0.0.1:2 syn-sent initiator idle 2/112 SYN at 0s..3s eth3+eth1+eth2",
			"count eth1 seen 1/54", "count eth1 accounted 1/54",
			"count eth2 seen 1/54", "count eth2 observed 1/54",
			"count eth3 seen 1/58", "count eth3 accounted 1/58",
			"count none seen 1/54", "count none lost no-hook 1/54",
		}, got.Lines())
	}
}

func TestKernelRefusesAFrame(t *testing.T) {
	d := newDiffer(t)
	_, _, err := d.Play(&Case{Steps: []Step{{Hook: 1, Frame: make([]byte, 1<<16)}}})
	require.ErrorContains(t, err, "step 1: run the packet path on 65536 bytes")
}

func TestDiff(t *testing.T) {
	a, err := play(newReference(twoHooks()), twoHooks())
	require.NoError(t, err)
	require.Nil(t, Diff(a, a))
	c := twoHooks()
	c.Steps[1].Frame = append(c.Steps[1].Frame, 0)
	b, err := play(newReference(c), c)
	require.NoError(t, err)
	require.False(t, Same(a, b))
	require.Equal(t, []string{"- count eth2 seen 1/54", "- count eth2 observed 1/54",
		"+ count eth2 seen 1/55", "+ count eth2 observed 1/55"}, Diff(a, b))
}

// TestShrink has a predicate of its own: that some packet came to hook 3.
func TestShrink(t *testing.T) {
	c := Draw(3, 1, nil)
	at3 := func(c *Case) bool {
		for _, s := range c.Steps {
			if s.Kind == Packet && s.Hook == 3 && len(s.Frame) > 20 && s.Frame[20] == 0 {
				return true
			}
		}
		return false
	}
	c.Steps = append(c.Steps, Step{Hook: 3, Frame: filler(false), Segments: 3, Tag: true})
	c.Steps[len(c.Steps)-1].Frame[20] = 0
	small := shrink(c, at3)
	require.Len(t, small.Steps, 1)
	require.Equal(t, Step{Hook: 3, Frame: make([]byte, 21)}, small.Steps[0])
	require.Equal(t, Case{L3: c.L3, Steps: small.Steps}, *small)
}

// TestWrite reads back what a finding writes.
func TestWrite(t *testing.T) {
	for n := range uint64(12) {
		c := Draw(5, n, nil)
		c.Steps = c.Steps[:60]
		f := &Finding{Seed: 5, Number: n, Case: c, Diff: []string{"- a", "+ b"}}
		files, err := f.Write(t.TempDir())
		require.NoError(t, err)
		require.Len(t, files, 3)

		file, err := ParseVectors("x", f.Vector())
		require.NoError(t, err)
		require.Len(t, file.Vectors, 1)
		v := file.Vectors[0]
		want, err := trace(newReference(c), c)
		require.NoError(t, err)
		require.Equal(t, want, v.Want)
		require.Equal(t, f.Vector(), file.Update([][]string{want}))
		got, err := trace(newReference(&v.Case), &v.Case)
		require.NoError(t, err)
		require.Equal(t, want, got)

		_, err = spec.Parse(files[1], f.Scenario())
		require.NoError(t, err)

		in, err := os.Open(files[2])
		require.NoError(t, err)
		defer in.Close()
		frames, err := readCapture(in)
		if c.L3 {
			require.ErrorContains(t, err, "its link type is 101")
			continue
		}
		require.NoError(t, err)
		require.Len(t, frames, c.packets())
	}
}
