package agent

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf"
)

// discovering is a configuration that finds the interfaces of the far namespace by itself.
func (p *pair) discovering(t testing.TB, mode string) Config {
	t.Helper()
	cfg := p.watching(t)
	cfg.Interfaces = nil
	cfg.Discover = &Discover{Mode: mode, Namespaces: []string{p.far}}
	if mode == ifaces.Poll {
		cfg.Discover.Every = minEvery
	}
	return cfg
}

// more is another veth pair between the two namespaces.
func (p *pair) more(t testing.TB, n int) *pair {
	t.Helper()
	q := *p
	q.link = n
	subnet := byte(n % 250)
	q.nearIP, q.farIP = net.IPv4(10, 1, subnet, 1), net.IPv4(10, 1, subnet, 2)
	q.build(t)
	return &q
}

func (p *pair) remove(t testing.TB) {
	t.Helper()
	inside(t, p.far, func() error {
		l, err := netlink.LinkByName(p.farLink())
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
}

// watches tells whether both directions of an interface are watched.
func watches(t testing.TB, a *Agent, name string) bool {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, placed := range a.placed {
		if a.hook(placed.at.Number).Interface == name {
			n++
		}
	}
	return n == 2
}

func informers(t *testing.T, test func(t *testing.T, mode string)) {
	for _, mode := range []string{ifaces.Watch, ifaces.Poll} {
		t.Run(mode, func(t *testing.T) { test(t, mode) })
	}
}

// TestDiscover lets interfaces come, change their names and go.
func TestDiscover(t *testing.T) {
	informers(t, func(t *testing.T, informer string) {
		modes(t, func(t *testing.T, mode string) {
			p := newPair(t)
			cfg := p.discovering(t, informer)
			cfg.Discover.Hook, cfg.Discover.Zone = mode, 7
			l := newLedger()
			a, err := New(cfg, Options{Sink: l})
			require.NoError(t, err)
			require.Equal(t, ours(mode), p.attached(t), "what is there is watched from the beginning")
			require.False(t, watches(t, a, "lo"))
			stop := run(t, a)

			q := p.more(t, 1)
			eventually(t, "the new interface to be watched", func() bool { return watches(t, a, q.farLink()) })
			q.send(t, q.udp(t, 1, 2, 0))
			inside(t, p.far, func() error {
				l, err := netlink.LinkByName(q.farLink())
				if err != nil {
					return err
				}
				return netlink.LinkSetName(l, "renamed")
			})
			eventually(t, "the new name to be known", func() bool { return watches(t, a, "renamed") })
			inside(t, p.far, func() error {
				l, err := netlink.LinkByName("renamed")
				if err != nil {
					return err
				}
				return netlink.LinkDel(l)
			})
			eventually(t, "the interface to be let go", func() bool { return !watches(t, a, "renamed") })

			r := p.more(t, 1) // the same index again
			eventually(t, "an interface with the same index to be watched", func() bool { return watches(t, a, r.farLink()) })
			r.send(t, r.udp(t, 3, 4, 0))
			eventually(t, "both packets to be seen", func() bool { return sumOf(t, a).Accounted.Packets == 2 })
			require.NoError(t, stop())
			require.Equal(t, uint64(2), l.sum.Packets)
			require.Empty(t, l.wrong)
			require.Equal(t, uint16(7), l.records[0].Zone)
			names := map[uint16]string{1: "renamed", 3: r.farLink()}
			for _, record := range l.records {
				if record.Reason == flow.EndForced {
					require.Equal(t, []flow.Hook{{Namespace: p.far, Interface: names[record.SrcPort], Direction: flow.Ingress}}, record.Seen)
				}
			}
			require.Empty(t, p.attached(t))
		})
	})
}

// TestDiscoverReplacedAtOnce deletes an interface and makes another one with its name and index before
// anybody can look: nothing but the kernel's message, or a look at the hook, tells them apart.
func TestDiscoverReplacedAtOnce(t *testing.T) {
	informers(t, func(t *testing.T, informer string) {
		modes(t, func(t *testing.T, mode string) {
			p := newPair(t)
			cfg := p.discovering(t, informer)
			cfg.Discover.Hook = mode
			a, err := New(cfg, Options{Sink: newLedger()})
			require.NoError(t, err)
			p.rebuild(t)
			require.Empty(t, p.attached(t))
			stop := run(t, a)
			eventually(t, "the new interface to be watched", func() bool { return len(p.attached(t)) == 2 })
			require.NoError(t, stop())
		})
	})
}

// TestDiscoverRestoresHook takes a tc filter of the agent off, as whoever deletes the clsact qdisc does.
func TestDiscoverRestoresHook(t *testing.T) {
	p := newPair(t)
	cfg := p.discovering(t, ifaces.Poll)
	cfg.Discover.Hook = bpf.TC
	a, err := New(cfg, Options{Sink: newLedger()})
	require.NoError(t, err)
	stop := run(t, a)
	inside(t, p.far, func() error {
		return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: farIndex,
			Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
	})
	eventually(t, "the filters to be there again", func() bool { return len(p.attached(t)) == 2 })
	require.NoError(t, stop())
}

// TestDiscoverMoves moves an interface from one namespace to another and back.
func TestDiscoverMoves(t *testing.T) {
	informers(t, func(t *testing.T, informer string) {
		p := newPair(t)
		other := nstest.New(t)
		cfg := p.discovering(t, informer)
		cfg.Discover.Namespaces = append(cfg.Discover.Namespaces, other)
		a, err := New(cfg, Options{Sink: newLedger()})
		require.NoError(t, err)
		stop := run(t, a)
		for _, way := range [][2]string{{p.far, other}, {other, p.far}} {
			to, err := os.Open(way[1])
			require.NoError(t, err)
			inside(t, way[0], func() error {
				l, err := netlink.LinkByName(farName)
				if err != nil {
					return err
				}
				return netlink.LinkSetNsFd(l, int(to.Fd()))
			})
			require.NoError(t, to.Close())
			eventually(t, "the interface to be watched where it is", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return len(a.placed) == 2 && a.hook(a.placed[0].at.Number).Namespace == way[1]
			})
		}
		require.NoError(t, stop())
	})
}

// sumOf adds up the counters of all hooks.
func sumOf(t testing.TB, a *Agent) (sum bpf.Counters) {
	t.Helper()
	c, err := a.Counters()
	require.NoError(t, err)
	for _, h := range c.Hooks {
		sum.Seen.Add(h.Seen)
		sum.Accounted.Add(h.Accounted)
		sum.Observed.Add(h.Observed)
	}
	return sum
}

// TestNamesOfFormerHooks calls by its index what an earlier agent has left without a name.
func TestNamesOfFormerHooks(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Pin = pinFolder(t)
	cfg.Interfaces[0].As = "blue"
	a, err := New(cfg, Options{Sink: newLedger()})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.stop()) }()
	at := a.placed[1].at
	clear(a.hooks)
	require.Equal(t, flow.Hook{Namespace: "blue", Interface: farName, Direction: flow.Egress}, a.hook(at.Number))
	clear(a.hooks)
	require.NoError(t, a.dp.NameHook(at.Number, ""))
	require.Equal(t, flow.Hook{Namespace: p.far, Interface: fmt.Sprint("ifindex-", farIndex), Direction: flow.Egress}, a.hook(at.Number))
	nstest.Drop(p.far)
	clear(a.hooks)
	require.Equal(t, fmt.Sprintf("net:[%d]", at.Namespace), a.hook(at.Number).Namespace)
}

// TestDiscoverNamed has the configuration name one of the interfaces that are discovered.
func TestDiscoverNamed(t *testing.T) {
	p := newPair(t)
	cfg := p.discovering(t, ifaces.Watch)
	cfg.Discover.Deny = []string{"/./"}
	cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far, As: "mine", Zone: 3}}
	l := newLedger()
	a, err := New(cfg, Options{Sink: l})
	require.NoError(t, err)
	stop := run(t, a)
	q := p.more(t, 1) // has the agent look
	a.discover()
	require.True(t, watches(t, a, farName), "what is named stays, although it is denied")
	require.False(t, watches(t, a, q.farLink()))
	p.send(t, p.udp(t, 1, 2, 0))
	require.NoError(t, stop())
	require.Equal(t, uint16(3), l.records[0].Zone)
	require.Equal(t, "mine", l.records[0].Seen[0].Namespace)
}

func TestDiscoverConfig(t *testing.T) {
	for text, want := range map[string]string{
		"discover: {mode: listen}":           `weir.yaml:1:18: discover.mode: "listen"; want watch or poll`,
		"discover: {every: 1ms}":             "discover.every: 1ms; want at least 100ms",
		"discover: {allow: [eth0, '/(/']}":   `discover.allow[1]: "/(/": error parsing regexp`,
		"discover: {deny: [10.0.0.0/33]}":    `discover.deny[0]: "10.0.0.0/33": want a name`,
		"discover: {deny: ['']}":             "discover.deny[0]: is empty",
		"discover: {namespaces: ['[']}":      `discover.namespaces[0]: "[": want own`,
		"discover: {hook: xdp}":              `discover.hook: "xdp"; want tcx, tc or netkit`,
		"discover: {alow: [eth0]}":           `unknown key "alow"; did you mean "allow"?`,
		"interfaces: []":                     "or discover: {} for all",
		"discover: {namespaces: [own, blue]": "weir.yaml:1",
	} {
		_, err := parseConfig("weir.yaml", []byte(text), nil, nil)
		require.ErrorContains(t, err, want, text)
	}
	c, err := parseConfig("weir.yaml", []byte("discover: {}"), nil, nil)
	require.NoError(t, err)
	require.False(t, c.namespaces())
	o, err := c.Discover.options()
	require.NoError(t, err)
	require.Equal(t, ifaces.Watch, o.Mode)
	require.Equal(t, 10*time.Second, o.Every)
	require.Equal(t, []string{ifaces.Own}, o.Namespaces)

	for text, deny := range map[string][]string{"discover: {}": {"lo"}, "discover: {deny: []}": {}, "discover: {deny: [eth0]}": {"eth0"}} {
		c, err = parseConfig("weir.yaml", []byte(text), nil, nil)
		require.NoError(t, err)
		shown, err := yaml.Marshal(c)
		require.NoError(t, err)
		again, err := ParseConfig("shown", shown)
		require.NoError(t, err, string(shown))
		require.Equal(t, deny, again.Discover.Deny, "what is shown means the same")
	}

	c, err = parseConfig("weir.yaml", nil, []string{"WEIR_DISCOVER_NAMESPACES=own,cni-*", "WEIR_DISCOVER_ALLOW=eth0,/^veth/"}, nil)
	require.NoError(t, err)
	require.True(t, c.namespaces())
	require.Equal(t, []string{"eth0", "/^veth/"}, c.Discover.Allow)
}
