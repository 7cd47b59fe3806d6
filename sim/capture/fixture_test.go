package capture_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/capture"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

func port(host, name string) spec.Port { return testnet.Port(host, name) }

func endpoint(host, addr string, p uint16) spec.Endpoint { return testnet.Endpoint(host, addr, p) }

// all lists all ports of a topology.
func all(topology *spec.Topology) (ports []spec.Port) {
	for _, h := range topology.Hosts {
		for _, i := range h.Interfaces {
			ports = append(ports, port(h.Name, i.Name))
		}
	}
	return ports
}

// bench is a topology with an engine and a capture.
type bench struct {
	t       *testing.T
	engine  *traffic.Engine
	capture *capture.Capture
}

func newBench(t *testing.T, topology *spec.Topology, ports ...spec.Port) *bench {
	t.Helper()
	net := testnet.Build(t, topology)
	e, err := traffic.New(&spec.Scenario{Topology: *topology}, net)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	c, err := capture.Open(net, topology, ports)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, e.Settle(context.Background()))
	_, err = c.Drain()
	require.NoError(t, err)
	return &bench{t, e, c}
}

// run carries out a step and returns what passed.
func (b *bench) run(step spec.Step) []capture.Packet {
	b.t.Helper()
	require.NoError(b.t, b.engine.Run(context.Background(), &step))
	packets, err := b.capture.Drain()
	require.NoError(b.t, err)
	return packets
}

func hook(host, name string, d flow.Direction) flow.Hook {
	return flow.Hook{Namespace: host, Interface: name, Direction: d}
}
