package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// ourObject is the datapath's own object, which serves as the peer's.
const ourObject = "../weir_bpfel.o"

// tiny is a run of a moment.
func tiny() Options {
	return Options{Rounds: 2, Repeat: 100, Table: 256, Flows: []int{200}, Sweep: []int{100}, Collect: []int{100}}
}

// TestRun runs every case. That the table holds what a case is about, and that a sweep reports
// what it should, the cases check themselves.
func TestRun(t *testing.T) {
	kerneltest.NeedRoot(t)
	opts := tiny()
	opts.Peer = &Peer{Object: ourObject, Program: "weir_packet"}
	var progress bytes.Buffer
	opts.Progress = &progress
	r, err := Run(t.Context(), opts)
	require.NoError(t, err)
	held := map[string]int{"tcp4/hot": 1, "tcp6/hot": 1, "udp4/hot": 1, "tcp4/200": 200,
		"tcp6/200": 200, "tcp4/new": 256, "tcp4/insert": 256, "tcp6/new": 256, "tcp4/2cpu-one": 1, "tcp4/2cpu-two": 2, "tcp4/table": 1, "tcp4/2cpu-table": 1,
		"tcp4/full": 256, "tcp4/room": 512, "tcp4/full-syn": 256, "tcp4/full-overflow": 256, "memory/conn4": 100,
		"sampled-out": 0, "feature/sampling": 1, "feature/filter": 1, "feature/tunnels": 1,
		"feature/dns": 0, "feature/dns-query": 0, "feature/handshake": 0, "feature/handshake-syn": 0,
		"feature/drops": 0, "feature/rtt": 0}
	for _, c := range hopCases() {
		held[c.name()] = 0
	}
	alone := []string{"tcp4/insert", "tcp4/table", "tcp4/2cpu-table", "tcp4/room", "tcp4/full-overflow", "sampled-out", "feature/sampling", "feature/filter",
		"feature/tunnels", "feature/dns", "feature/dns-query", "feature/handshake",
		"feature/handshake-syn"}
	for _, f := range r.Figures {
		require.NotEmpty(t, f.What, f.Name)
		if f.Missing != "" {
			require.Nil(t, f.Ours, f.Name)
			continue
		}
		require.NotNil(t, f.Ours, f.Name)
		require.Equal(t, held[f.Name], f.Ours.Held, f.Name)
		if f.Unit == PerPacket {
			require.Positive(t, f.Empty, f.Name)
			require.Equal(t, !slices.Contains(alone, f.Name), f.Peer != nil, f.Name)
		} else if f.Unit == PerExchange || f.Unit == PerHop { // what one adds can be too little to measure
			require.Positive(t, f.Empty, f.Name)
		} else {
			require.Positive(t, f.Ours.Median, f.Name)
		}
	}
	for name := range held {
		_, ok := r.Find(name)
		require.True(t, ok, name)
	}
	require.Len(t, r.Figures, len(held)+len(sweepCases)+1+len(usualWays)+len(exportNames(100)))
	require.Contains(t, progress.String(), "measuring tcp4/hot\n")
	require.NoError(t, r.Write(&progress))
}

func TestMatch(t *testing.T) {
	kerneltest.NeedRoot(t)
	opts := tiny()
	opts.Match = regexp.MustCompile("changed-50|memory")
	r, err := Run(t.Context(), opts)
	require.NoError(t, err)
	require.Len(t, r.Figures, 2)
	require.Equal(t, "sweep/100/changed-50", r.Figures[0].Name)
	require.Nil(t, r.Figures[1].Peer)
}

func TestCancel(t *testing.T) {
	kerneltest.NeedRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Run(ctx, tiny())
	require.ErrorIs(t, err, context.Canceled)
}

// TestDriver counts the flows that a driver makes, in both orders.
func TestDriver(t *testing.T) {
	kerneltest.NeedRoot(t)
	const flows = 70000 // more than there are ports
	for name, p := range map[string]packet{"tcp4": tcp4(ack), "tcp6": tcp6(ack), "udp4": udp4()} {
		s, err := loadOurs(1<<17, nil)
		require.NoError(t, err)
		d, err := newDriver(p, s.program, s.kind)
		require.NoError(t, err)
		for _, sorted := range []bool{true, false} {
			require.NoError(t, s.empty())
			require.NoError(t, d.set(flows, sorted))
			_, _, err = d.program.Benchmark(p.frame, flows, nil)
			require.NoError(t, err)
			held, err := s.held()
			require.NoError(t, err)
			require.Equal(t, flows, held, name)
			turns, err := d.turns()
			require.NoError(t, err)
			require.GreaterOrEqual(t, turns, flows)
		}
		require.Error(t, d.set(maxFlows+1, true))
		require.NoError(t, d.close())
		require.NoError(t, s.close())
	}
}

func TestStep(t *testing.T) {
	for n := uint64(1); n < 300; n++ {
		seen := map[uint64]bool{}
		next := uint64(0)
		for range n {
			seen[next] = true
			if next += step(n); next >= n {
				next -= n
			}
		}
		require.Len(t, seen, int(n), "%d flows in steps of %d", n, step(n))
	}
}

func TestNarrow(t *testing.T) {
	spec, err := ebpf.LoadCollectionSpec(ourObject)
	require.NoError(t, err)
	_, err = narrow(spec, "weir_pocket")
	require.ErrorContains(t, err, `no program "weir_pocket"; there are weir_collect, `)
	all := len(spec.Maps)
	_, err = narrow(spec, "weir_collect")
	require.NoError(t, err)
	require.Len(t, spec.Programs, 1)
	require.Contains(t, spec.Maps, "works")
	require.NotContains(t, spec.Maps, "hooks")
	require.Less(t, len(spec.Maps), all)
}

func TestPeerErrors(t *testing.T) {
	for name, test := range map[string]struct {
		peer Peer
		says string
	}{
		"no file":     {Peer{Object: "no.o", Program: "p"}, "read no.o"},
		"no variable": {Peer{Set: map[string]uint64{"clock": 1}}, `no variable "clock"; there are `},
		"too large":   {Peer{Set: map[string]uint64{"clock_source": 256}}, "has 1 bytes; 256 cannot be"},
	} {
		if test.peer.Object == "" {
			test.peer.Object, test.peer.Program = ourObject, "weir_packet"
		}
		_, err := loadPeer(&test.peer, 16)
		require.ErrorContains(t, err, test.says, name)
	}
}

// TestPeerSet sees that a constant is set: with a wrong one the packet path is another program.
func TestPeerSet(t *testing.T) {
	kerneltest.NeedRoot(t)
	p := &Peer{Object: ourObject, Program: "weir_packet", Set: map[string]uint64{"clock_source": 2}}
	require.Equal(t, "weir_packet of weir_bpfel.o clock_source=2", p.String())
	spec, err := ebpf.LoadCollectionSpec(ourObject)
	require.NoError(t, err)
	require.NoError(t, p.configure(spec))
	require.Equal(t, []byte{2}, spec.Variables["clock_source"].Value)
	s, err := loadPeer(p, 16)
	require.NoError(t, err)
	for _, m := range s.tables {
		require.Equal(t, uint32(16), m.MaxEntries())
		require.False(t, m.IsPinned())
	}
	require.NotEmpty(t, s.tables)
	require.NoError(t, s.close())
}

func TestFlags(t *testing.T) {
	for args, says := range map[string]string{
		"":                                    "",
		"--object a.o --program b":            "",
		"--object a.o":                        "go together",
		"--program b":                         "go together",
		"--set x=1":                           "go together",
		"-o yaml":                             "want table or json",
		"--rounds -1":                         "want at least 1",
		"--end-to-end --run x":                "--end-to-end goes with",
		"--run (":                             "--run",
		"--object a --program b --set x":      `--set "x": want name=number`,
		"--object a --program b --set x=y":    `--set "x=y"`,
		"--object a --program b --set =1":     `--set "=1"`,
		"--object a --program b --set x=0x10": "",
	} {
		var f flags
		c := f.command()
		require.NoError(t, c.ParseFlags(strings.Fields(args)))
		_, err := f.options()
		if says == "" {
			require.NoError(t, err, args)
			continue
		}
		require.ErrorContains(t, err, says, args)
	}
}

func TestCommandJSON(t *testing.T) {
	kerneltest.NeedRoot(t)
	c := Command()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&bytes.Buffer{})
	c.SetArgs([]string{"--run", "tcp4/hot", "--rounds", "1", "-o", "json",
		"--object", ourObject, "--program", "weir_packet"})
	require.NoError(t, c.ExecuteContext(t.Context()))
	var r Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	require.Len(t, r.Figures, 1)
	require.Positive(t, r.Figures[0].Ours.Median)
	require.NotNil(t, r.Figures[0].Peer)
	require.NotEmpty(t, r.Machine.Kernel)
}

func TestFigure(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 3, 1, 2}))
	require.Equal(t, &Value{Median: 40, Best: 30}, netOf([]float64{70, 50, 90}, []float64{30, 20, 50}))
	f := Figure{Ours: &Value{Median: 30}, Peer: &Value{Median: 60}}
	require.Equal(t, 0.5, f.compare().Ratio)
	require.Zero(t, Figure{Ours: &Value{Median: 30}, Peer: &Value{}}.compare().Ratio)
}

func TestWrite(t *testing.T) {
	r := Result{Peer: "tc_main of peer.o", Machine: Machine{CPU: "Z80", CPUs: 1, Used: []int{0}, Kernel: "9.9"},
		Figures: []Figure{
			{Name: "a", What: "x", Unit: PerPacket, Ours: &Value{Median: 30.4}, Peer: &Value{Median: 61}, Ratio: 0.5},
			{Name: "b", What: "y", Unit: PerPacket, Missing: "why"},
		}}
	var out bytes.Buffer
	require.NoError(t, r.Write(&out))
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, []string{
		"name  ours  peer  ratio  unit       what",
		"a     30    61    0.50   ns/packet  x",
		"b     -     -     -      ns/packet  y (why)",
		"",
		"Z80, 1 CPUs, of which [0] send packets; Linux 9.9",
	}, lines[:5])
	require.Contains(t, out.String(), "peer: tc_main of peer.o")
}

func TestSimultaneous(t *testing.T) {
	at := func(begin, end, ran int) span {
		zero := time.Unix(0, 0)
		return span{zero.Add(time.Duration(begin)), zero.Add(time.Duration(end)), time.Duration(ran)}
	}
	require.True(t, simultaneous([]span{at(0, 100, 95), at(5, 95, 90)}))
	require.False(t, simultaneous([]span{at(0, 100, 95), at(100, 200, 95)}), "one after the other")
	require.False(t, simultaneous([]span{at(0, 100, 95), at(0, 100, 50)}), "one was put aside")
	require.False(t, simultaneous([]span{at(0, 100, 95), at(0, 60, 60)}), "one ends much earlier")
}

func TestWorkersStayOnTheirCPUs(t *testing.T) {
	cpus, _, err := pickCPUs()
	require.NoError(t, err)
	require.NotEmpty(t, cpus)
	w, err := newWorkers(cpus)
	require.NoError(t, err)
	defer stop(w)
	ran := make([]bool, len(w))
	require.NoError(t, atOnce(w, func(i int) error { ran[i] = true; return nil }))
	require.NotContains(t, ran, false)
	_, err = newWorkers([]int{1 << 9})
	require.Error(t, err)
}

func TestHandover(t *testing.T) {
	cpus, _, err := pickCPUs()
	require.NoError(t, err)
	w, err := newWorkers(cpus)
	require.NoError(t, err)
	defer stop(w)
	ns, err := handover(w)
	require.NoError(t, err)
	require.Equal(t, len(w) == 2, ns > 0)
	ns, err = handover(w[:1])
	require.NoError(t, err)
	require.Zero(t, ns)
}
