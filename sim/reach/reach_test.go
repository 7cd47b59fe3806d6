package reach

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
)

// topology has all that frames pass: a router, a bridge of several ports, a VLAN interface.
const topology = `summary: a frame on its way
topology:
  client: {eth0: [10.0.0.1/24]}
  router:
    forward: true
    eth0: [10.0.0.254/24]
    eth1: [10.0.1.254/24]
    eth2: []
    eth2.7: [10.7.0.254/24]
  switch:
    br0: {bridge: [eth0, eth1, eth2]}
  server: {eth0: [10.0.1.2/24]}
  other: {eth0: [10.0.1.3/24]}
  tagged:
    eth0: []
    eth0.7: [10.7.0.1/24]
    eth1: []
  node: {eth0: []}
  one: {mv0: {macvlan: node/eth0, addresses: [10.8.0.1/24]}}
  two: {mv0: {macvlan: node/eth0, addresses: [10.8.0.2/24]}}
  behind: {stack: kernel, iv0: {ipvlan: tagged/eth1, addresses: [10.8.0.4/24]}}
  left:
    tun0: {tun: true, addresses: [10.4.0.1/24]}
    bond0: {bond: {mode: active-backup, members: [eth0]}, addresses: [10.5.0.1/24]}
    gre1: {gre: {remote: 10.5.0.2}, addresses: [10.6.0.1/24]}
  right:
    tun0: {tun: true, addresses: [10.4.0.2/24]}
    eth0: [10.5.0.2/24]
    gre1: {gre: {remote: 10.5.0.1}, addresses: [10.6.0.2/24]}
  links:
    - node/eth0 - tagged/eth1
    - left/tun0 - right/tun0
    - left/eth0 - right/eth0
    - client/eth0 - router/eth0
    - router/eth1 - switch/eth0
    - server/eth0 - switch/eth1
    - other/eth0 - switch/eth2
    - tagged/eth0 - router/eth2
agent: {on: [server/eth0]}
traffic:
  - `

const toServer = "{packet: 'client:1 > server:2', layers: [udp]}"

func way(t *testing.T, packet string) (hooks []string, w Way) {
	sc, err := spec.Parse("reach.yaml", []byte(topology+packet))
	require.NoError(t, err)
	for f, err := range traffic.NewBuilder(&sc.Topology).Frames(&sc.Steps[0]) {
		require.NoError(t, err)
		w = New(&sc.Topology).Frame(spec.Port{Host: f.Host, Interface: f.Interface}, f.Data)
	}
	for _, h := range w.Hooks {
		hooks = append(hooks, h.String())
	}
	return hooks, w
}

func TestFrame(t *testing.T) {
	for name, tc := range map[string]struct {
		packet      string
		hooks, ends []string
		complete    bool
	}{
		"through a router and a bridge": {
			toServer,
			[]string{"client/eth0 egress", "router/eth0 ingress", "router/eth1 egress",
				"switch/eth0 ingress", "switch/eth1 egress", "server/eth0 ingress"},
			[]string{"server"}, true},
		"to a VLAN interface": {
			"{packet: 'client:1 > tagged:2', layers: [udp]}",
			[]string{"client/eth0 egress", "router/eth0 ingress", "router/eth2.7 egress",
				"router/eth2 egress", "tagged/eth0 ingress", "tagged/eth0.7 ingress"},
			[]string{"tagged"}, true},
		"to all on a segment": {
			"{packet: 'server:1 > 10.0.1.255:2', layers: [udp]}",
			[]string{"server/eth0 egress", "switch/eth1 ingress", "switch/br0 ingress",
				"switch/eth0 egress", "router/eth1 ingress", "switch/eth2 egress",
				"other/eth0 ingress"},
			[]string{"switch", "router", "other"}, true},
		"to the router": {
			"{packet: 'client:1 > 10.0.0.254:2', layers: [udp]}",
			[]string{"client/eth0 egress", "router/eth0 ingress"}, []string{"router"}, false},
		"from one interface upon another to the next": {
			"{packet: 'one:1 > two:2', layers: [udp]}",
			[]string{"one/mv0 egress", "node/eth0 ingress", "two/mv0 ingress"}, []string{"two"}, true},
		"to an interface upon another, by its address": {
			"{packet: 'one:1 > behind:2', layers: [udp]}",
			[]string{"one/mv0 egress", "node/eth0 egress", "tagged/eth1 ingress", "behind/iv0 ingress"},
			[]string{"behind"}, true},
		"without a link header": {
			"{packet: '10.4.0.1:1 > 10.4.0.2:2', layers: [udp]}",
			[]string{"left/tun0 egress", "right/tun0 ingress"}, []string{"right"}, true},
		"out of a bond": {
			"{packet: '10.5.0.1:1 > 10.5.0.2:2', layers: [udp]}",
			[]string{"left/bond0 egress", "left/eth0 egress", "right/eth0 ingress"}, []string{"right"}, false},
		"into a bond": {
			"{packet: '10.5.0.2:1 > 10.5.0.1:2', layers: [udp]}",
			[]string{"right/eth0 egress", "left/eth0 ingress", "left/bond0 ingress"}, []string{"left"}, true},
		"through a tunnel": {
			"{packet: '10.6.0.1:1 > 10.6.0.2:2', layers: [udp]}",
			[]string{"left/gre1 egress", "right/gre1 ingress"}, []string{"right"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			hooks, w := way(t, tc.packet)
			require.Equal(t, tc.hooks, hooks)
			require.Equal(t, tc.ends, w.Ends)
			require.Equal(t, tc.complete, w.Complete)
		})
	}
}

func TestFrameTooShort(t *testing.T) {
	require.False(t, New(&spec.Topology{}).Frame(spec.Port{}, make([]byte, 13)).Complete)
}

// TestGoldens holds what Frame says against golden files: what a hook saw of scripted traffic must
// have been on the way of some frame, unless the way is said to be incomplete.
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("../../scenarios/*/*.yaml")
	require.NoError(t, err)
	checked := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		sc, err := spec.Parse(file, data)
		require.NoError(t, err)
		readCaptures(t, sc, filepath.Dir(file))
		text, err := os.ReadFile(strings.Replace(file, "/scenarios/", "/golden/", 1))
		require.NoError(t, err)
		want, err := golden.Decode(file, text, sc.Expect.Free...)
		require.NoError(t, err)
		hooks, complete := scripted(t, sc)
		for _, c := range want.Counters {
			if complete {
				checked++
				require.Contains(t, hooks, c.Hook, file)
			}
		}
	}
	require.Greater(t, checked, 20)
}

func readCaptures(t *testing.T, sc *spec.Scenario, dir string) {
	for i := range sc.Steps {
		if r := sc.Steps[i].Replay; r != nil {
			data, err := os.ReadFile(filepath.Join(dir, r.File))
			require.NoError(t, err)
			r.Data = data
		}
	}
}

// scripted gives the hooks that a scenario's frames pass; complete is false when others send too.
func scripted(t *testing.T, sc *spec.Scenario) (hooks map[string]bool, complete bool) {
	m, b := New(&sc.Topology), traffic.NewBuilder(&sc.Topology)
	hooks, complete = map[string]bool{}, true
	for i := range sc.Steps {
		if sc.Steps[i].Socket != nil {
			return nil, false
		}
		for f, err := range b.Frames(&sc.Steps[i]) {
			require.NoError(t, err)
			w := m.Frame(spec.Port{Host: f.Host, Interface: f.Interface}, f.Data)
			complete = complete && w.Complete
			for _, h := range w.Hooks {
				hooks[h.String()] = true
			}
		}
	}
	for _, h := range sc.Topology.Hosts {
		complete = complete && (!h.Stack || h.Forward)
	}
	return hooks, complete
}

func FuzzFrame(f *testing.F) {
	sc, err := spec.Parse("reach.yaml", []byte(topology+toServer))
	require.NoError(f, err)
	for frame := range traffic.NewBuilder(&sc.Topology).Frames(&sc.Steps[0]) {
		f.Add(frame.Data)
	}
	m := New(&sc.Topology)
	f.Fuzz(func(t *testing.T, frame []byte) {
		m.Frame(spec.Port{Host: "client", Interface: "eth0"}, frame)
	})
}
