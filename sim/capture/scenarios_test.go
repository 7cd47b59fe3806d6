package capture_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/capture"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/suite"
	"github.com/weirnet/weir/sim/topology"
	"github.com/weirnet/weir/sim/traffic"
)

// play builds a scenario's network, carries out its steps and returns what passed.
func play(t *testing.T, sc *spec.Scenario) []capture.Packet {
	dir := t.TempDir()
	net, err := topology.Build(sc, topology.Options{NetnsDir: dir + "/netns", RunDir: dir + "/run"})
	var unsupported *topology.Unsupported
	if errors.As(err, &unsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, net.Close()) }()
	e, err := traffic.New(sc, net)
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	e.Groups = anyGroup{}
	c, err := capture.Open(net, &sc.Topology, sc.Agent.On)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()

	for i := range sc.Steps {
		switch s := &sc.Steps[i]; {
		case s.Link != nil:
			require.NoError(t, net.Change(*s.Link))
		case s.Host != nil && s.Host.Action == "delete":
			require.NoError(t, errors.Join(c.Leave(s.Host.Host), e.Leave(s.Host.Host), net.ChangeHost(*s.Host)))
		case s.Host != nil:
			require.NoError(t, net.ChangeHost(*s.Host))
			require.NoError(t, errors.Join(e.Join(s.Host.Host), c.Join(net, &sc.Topology, s.Host.Host)))
		case s.Agent == "" && s.Advance == 0:
			require.NoError(t, e.Run(t.Context(), s))
		}
	}
	require.NoError(t, e.Settle(t.Context()))
	packets, err := c.Drain()
	require.NoError(t, err)
	return packets
}

// anyGroup leaves sockets in this process's control group: frames do not show it.
type anyGroup struct{}

func (anyGroup) In(_ string, f func() error) error { return f() }

// TestScenariosRepeat plays every scenario twice: the witness sees the same frames at the same
// hooks in the same order. Kernels choose numbers of their own: the identification of IPv4
// packets is not compared, and of real sockets only each hook's first packet's size.
func TestScenariosRepeat(t *testing.T) {
	kerneltest.NeedRoot(t)
	root := filepath.Join("..", "..", "scenarios")
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the scenarios are not there")
	}
	jobs, err := suite.Find([]string{root}, nil)
	require.NoError(t, err)
	played := map[string]bool{} // in one of their variants
	for _, job := range jobs {
		if played[job.Base()] {
			continue
		}
		played[job.Base()] = true
		t.Run(job.Name, func(t *testing.T) {
			sc, err := job.Scenario()
			require.NoError(t, err)
			first := play(t, sc)
			require.NotEmpty(t, first)
			if testing.Short() {
				return // the race detector sees no more in the second one
			}
			second := play(t, sc)
			require.Equal(t, outline(sc, first), outline(sc, second))
		})
	}
}

// outline is what must not change between runs.
func outline(sc *spec.Scenario, packets []capture.Packet) any {
	for i := range sc.Steps {
		if sc.Steps[i].Socket != nil {
			first := map[flow.Hook]int{}
			for _, p := range packets {
				if _, ok := first[p.Hook]; !ok {
					first[p.Hook] = len(p.Frame)
				}
			}
			return first
		}
	}
	for _, p := range packets {
		if len(p.Frame) >= 34 && p.Frame[12] == 8 && p.Frame[13] == 0 {
			clear(p.Frame[18:20]) // identification
			clear(p.Frame[24:26]) // header checksum
		}
	}
	return packets
}
