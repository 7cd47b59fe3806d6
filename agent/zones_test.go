package agent

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/ifaces"
)

func TestZonesCommand(t *testing.T) {
	s := newServed(t, func(c *Config) { c.Interfaces[0].Zone = 7 })
	s.few(t)
	var all []control.Zone
	require.NoError(t, json.Unmarshal([]byte(s.ct(t, "zones", "-o", "json")), &all))
	require.Equal(t, []control.Zone{{Number: 7, Interfaces: []string{"far/" + farName}, Connections: 4}}, all)
	require.Contains(t, s.ct(t, "zones"), "7     4            far/far0")
	require.Equal(t, "4 connections, of which 4 stay; removed: none\n", s.ct(t, "flush", "--zone", "0"))
	require.Equal(t, "4 connections, of which 0 stay; removed: 4 forced\n", s.ct(t, "flush", "--zone", "7"))
	require.Contains(t, s.ct(t, "zones"), "7     0            far/far0")
	s.balanced(t)
}

// TestZonesApart: two networks with the same addresses and ports have connections of their own; to empty one zone
// leaves the other as it is.
func TestZonesApart(t *testing.T) {
	other := newPair(t)
	s := newServed(t, func(c *Config) {
		c.Interfaces[0].Zone = 1
		c.Interfaces = append(c.Interfaces, Interface{Name: farName, Namespace: other.far, As: "other", Zone: 2})
	})
	s.send(t, s.udp(t, 1000, 53, 10))
	other.send(t, other.udp(t, 1000, 53, 20), other.udp(t, 1000, 53, 20))
	settled(t, s.pair, s.agent, 1)
	eventually(t, "the other network's packets", func() bool {
		c, err := s.agent.Counters()
		require.NoError(t, err)
		return c.Hooks[2].Accounted.Packets == 2
	})
	get := []string{"get", "udp", "10.0.0.1:1000", "10.0.0.2:53", "-o", "json", "--zone"}
	for zone, packets := range map[string]uint64{"1": 1, "2": 2} {
		var e conntrack.Entry
		require.NoError(t, json.Unmarshal([]byte(s.ct(t, append(get, zone)...)), &e))
		require.Equal(t, packets, e.Forward.Packets)
	}
	require.Equal(t, "2 connections, of which 1 stay; removed: 1 forced\n", s.ct(t, "gc", "--address", "10.0.0.2@1"))
	require.Equal(t, []string{"1000>53: 1+0 unreplied forced"}, s.news())
	require.Equal(t, "1 connections, of which 0 stay; removed: 1 forced\n", s.ct(t, "flush", "--zone", "2"))
	require.Equal(t, []string{"1000>53: 2+0 unreplied forced"}, s.news())
}

// TestZoneComesAndGoes: a zone is there with the first interface in it, and as long as an interface is watched or a
// connection lives in it.
func TestZoneComesAndGoes(t *testing.T) {
	p := newPair(t)
	cfg := p.discovering(t, ifaces.Poll)
	cfg.Discover.Zone, cfg.Discover.Allow = 7, []string{linkName(farName, 1)}
	a, err := New(cfg, Options{Sink: newLedger()})
	require.NoError(t, err)
	stop := run(t, a)
	zones := func() []control.Zone {
		all, err := a.Zones()
		require.NoError(t, err)
		return all
	}
	require.Empty(t, zones())
	q := p.more(t, 1)
	eventually(t, "the zone to be there", func() bool { return len(zones()) == 1 })
	require.Equal(t, uint16(7), zones()[0].Number)
	require.Len(t, zones()[0].Interfaces, 1)
	q.send(t, q.udp(t, 1000, 53, 0))
	eventually(t, "a connection in it", func() bool { return zones()[0].Connections == 1 })
	q.remove(t)
	eventually(t, "the interface to be let go", func() bool { return len(zones()[0].Interfaces) == 0 })
	require.Equal(t, 1, zones()[0].Connections, "what it has counted is still there")
	zone := uint16(7)
	_, err = a.Collect(conntrack.Collection{Filter: &conntrack.Filter{Zone: &zone}})
	require.NoError(t, err)
	require.Empty(t, zones())
	require.NoError(t, stop())
}
