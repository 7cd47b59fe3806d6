package agent

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf"
)

// TestReloadDiscovery changes what is discovered while packets come in: what stays wanted is not touched, and
// what was counted on interfaces that are let go is reported.
func TestReloadDiscovery(t *testing.T) {
	informers(t, func(t *testing.T, informer string) {
		p := newPair(t)
		q := p.more(t, 1)
		cfg := p.discovering(t, informer)
		cfg.Discover.Allow = []string{farName}
		l := newLedger()
		a, err := New(cfg, Options{Sink: l})
		require.NoError(t, err)
		stop := run(t, a)
		kept := a.placed[0].at
		quiet := p.trickle(t)
		change := func(by func(*Discover)) ([]string, error) {
			c, d := a.config(), *a.config().Discover
			by(&d)
			c.Discover = &d
			return a.Reload(c)
		}

		changed, err := change(func(d *Discover) { d.Allow = []string{"/^far/"} })
		require.NoError(t, err)
		require.Equal(t, []string{"discover.allow"}, changed)
		require.True(t, watches(t, a, q.farLink()))
		q.send(t, q.udp(t, 1, 2, 0))

		changed, err = change(func(d *Discover) { d.Mode, d.Deny, d.Every = ifaces.Poll, []string{q.farLink()}, minEvery })
		require.NoError(t, err)
		require.Contains(t, changed, "discover.deny")
		require.False(t, watches(t, a, q.farLink()))
		r := p.more(t, 2)
		eventually(t, "the new finder to be asked", func() bool { return watches(t, a, r.farLink()) })

		_, err = change(func(d *Discover) { d.Zone, d.Hook = 9, bpf.TC })
		require.ErrorContains(t, err, "discover.zone: needs a new start: connections would go on in another zone")
		require.ErrorContains(t, err, "discover.hook: needs a new start")
		require.True(t, watches(t, a, r.farLink()), "nothing is changed")

		require.Same(t, kept, a.placed[0].at, "what stayed wanted was not touched")
		quiet()
		want := p.received(t)
		want.Add(q.received(t))
		eventually(t, "the last packets to pass the hook", func() bool { return sumOf(t, a).Seen.Packets >= want.Packets })

		c := a.config()
		c.Discover, c.Interfaces = nil, []Interface{{Name: farName, Namespace: p.far}}
		_, err = a.Reload(c)
		require.ErrorContains(t, err, "interfaces: needs a new start")
		require.NoError(t, stop())
		require.Equal(t, want, l.sum)
		require.Empty(t, l.wrong)
	})
}

// TestReloadSwitchesDiscovery switches discovery off and on again, beside an interface that is named; and refuses
// to look into namespaces that the agent has not been let into.
func TestReloadSwitchesDiscovery(t *testing.T) {
	p := newPair(t)
	q := p.more(t, 1)
	cfg := p.discovering(t, ifaces.Watch)
	cfg.Interfaces = []Interface{{Name: farName, Namespace: p.far}}
	a, err := New(cfg, Options{Sink: newLedger()})
	require.NoError(t, err)
	stop := run(t, a)
	require.True(t, watches(t, a, q.farLink()))
	for range 2 {
		c := a.config()
		c.Discover = nil
		_, err = a.Reload(c)
		require.NoError(t, err)
		require.False(t, watches(t, a, q.farLink()))
		require.True(t, watches(t, a, farName))
		c.Discover = cfg.Discover
		changed, err := a.Reload(c)
		require.NoError(t, err)
		require.Equal(t, []string{"discover"}, changed)
		require.True(t, watches(t, a, q.farLink()))
	}
	require.NoError(t, stop())

	cfg.Interfaces, cfg.Discover = nil, &Discover{Allow: []string{"nothing"}}
	a, err = New(cfg, Options{Sink: newLedger()})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.stop()) }()
	cfg.Discover = &Discover{Allow: []string{"nothing"}, Namespaces: []string{"*"}}
	_, err = a.Reload(cfg)
	require.ErrorContains(t, err, "discover.namespaces: needs a new start: what it takes to enter other namespaces")
}
