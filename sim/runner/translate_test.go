package runner

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/spec"
)

const natText = `summary: all rules
topology:
  client: {eth0: [10.0.0.1/24]}
  router:
    forward: true
    eth0: [10.0.0.254/24]
    eth1: [192.0.2.254/24, 192.0.2.253/24]
    nat:
      - dnat tcp 203.0.113.1:80 to 192.0.2.2:8080
      - nodeport udp 53 to 192.0.2.2:5353
      - masquerade out eth1
      - snat out eth0 to 10.0.0.254
  server: {eth0: [192.0.2.2/24]}
  links: [client/eth0 - router/eth0, router/eth1 - server/eth0]
agent: {on: [router/eth0], features: [nat]}
traffic:
  - advance: 1s
`

func name(protocol uint8, src, dst string) named {
	return named{src: netip.MustParseAddrPort(src), dst: netip.MustParseAddrPort(dst), protocol: protocol}
}

func TestTranslateNames(t *testing.T) {
	sc, err := spec.Parse("nat.yaml", []byte(natText))
	require.NoError(t, err)
	router := sc.Topology.Host("router")
	for what, c := range map[string]struct {
		before, after named
		out           string
	}{
		"masquerade":              {name(6, "10.0.0.1:1", "192.0.2.2:80"), name(6, "192.0.2.254:1", "192.0.2.2:80"), "eth1"},
		"its other address":       {name(6, "10.0.0.1:1", "192.0.2.2:80"), name(6, "192.0.2.253:1", "192.0.2.2:80"), "eth1"},
		"snat":                    {name(6, "192.0.2.2:1", "10.0.0.1:80"), name(6, "10.0.0.254:1", "10.0.0.1:80"), "eth0"},
		"dnat":                    {name(6, "10.0.0.1:1", "203.0.113.1:80"), name(6, "192.0.2.254:1", "192.0.2.2:8080"), "eth1"},
		"node port":               {name(17, "10.0.0.1:1", "10.0.0.254:53"), name(17, "192.0.2.254:1", "192.0.2.2:5353"), "eth1"},
		"node port, far address":  {name(17, "10.0.0.1:1", "192.0.2.253:53"), name(17, "192.0.2.254:1", "192.0.2.2:5353"), "eth1"},
		"destination alone":       {name(17, "10.0.0.1:1", "10.0.0.254:53"), name(17, "10.0.0.1:1", "192.0.2.2:5353"), "eth0"},
		"another port":            {name(17, "10.0.0.1:1", "10.0.0.254:54"), name(17, "10.0.0.1:1", "10.0.0.254:54"), "eth1"},
		"another protocol":        {name(6, "10.0.0.1:1", "10.0.0.254:53"), name(6, "10.0.0.1:1", "10.0.0.254:53"), "eth1"},
		"another address":         {name(6, "10.0.0.1:1", "203.0.113.2:80"), name(6, "192.0.2.254:1", "203.0.113.2:80"), "eth1"},
		"another family":          {name(17, "[2001:db8::1]:1", "[2001:db8::2]:53"), name(17, "[2001:db8::1]:1", "[2001:db8::2]:53"), "eth1"},
		"nothing but itself left": {name(6, "10.0.0.1:1", "192.0.2.2:80"), name(6, "10.0.0.1:1", "192.0.2.2:80"), "eth1"},
	} {
		left := map[place]bool{{egress(router, c.out), c.after}: true}
		require.Equal(t, c.after, translate(router, c.before, left), what)
	}
	lost := name(6, "10.0.0.1:1", "203.0.113.1:80")
	require.Equal(t, lost, translate(router, lost, nil), "what has not left has no other name")
}

// TestTell adds both names to both directions, and to errors about them, at that router only.
func TestTell(t *testing.T) {
	tr := translation{"router", name(17, "10.0.0.1:1", "10.0.0.2:2"), name(17, "10.0.0.3:1", "10.0.0.2:2")}
	of := func(n named, cites uint8) model.Flow {
		f := model.Flow{Src: n.src.Addr(), Dst: n.dst.Addr(), SrcPort: n.src.Port(), DstPort: n.dst.Port(),
			Protocol: n.protocol}
		if cites != 0 {
			f.Protocol, f.Cites = 1, cites
		}
		return f
	}
	for _, c := range []struct {
		f             model.Flow
		before, after flow.NAT
	}{
		{f: of(tr.before, 0), after: tr.after.other()},
		{f: of(tr.before.reverse(), 0), after: tr.after.reverse().other()},
		{f: of(tr.after, 0), before: tr.before.other()},
		{f: of(tr.after.reverse(), 17), before: tr.before.reverse().other()},
		{f: of(tr.after.reverse(), 6)},
	} {
		tr.tell(&c.f)
		require.Equal(t, c.before, c.f.NATBefore)
		require.Equal(t, c.after, c.f.NATAfter)
	}
}

// TestJoined finds a record that names another flow than that of its other side.
func TestJoined(t *testing.T) {
	before := flow.Record{Flow: 1, NATAfter: flow.NAT{ID: "a", Flow: 2}}
	after := flow.Record{Flow: 2, NATBefore: flow.NAT{ID: "a", Flow: 1}}
	require.Empty(t, joined([]flow.Record{after, before, {Flow: 3}}))
	wrong := after
	wrong.NATBefore.Flow = 3
	diffs := joined([]flow.Record{before, wrong})
	require.Len(t, diffs, 1)
	require.Equal(t, "nat_before.flow", diffs[0].Fields[0].Name)
	require.Len(t, joined([]flow.Record{after}), 1, "there is no such flow")
}
