package agent

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf"
)

// trickle sends frames of many tuples from the near end, a few in every millisecond, until it is ended and
// all have arrived: a flood would leave no CPU for interfaces to come and go.
func (p *pair) trickle(t testing.TB) (end func()) {
	t.Helper()
	before := p.received(t)
	fd, frame := p.socket(t), p.udp(t, 1024, 53, 0)
	var sent uint64
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := uint16(0); ; n++ {
			select {
			case <-done:
				ended <- nil
				return
			case <-tick.C:
			}
			for k := range uint16(4) {
				binary.BigEndian.PutUint16(frame[sourcePort:], 1024+(4*n+k)%256)
				if err := transmit(fd, frame); err != nil {
					ended <- err
					return
				}
				sent++
			}
		}
	}()
	return func() {
		close(done)
		require.NoError(t, <-ended)
		eventually(t, "the last frames to arrive", func() bool {
			return p.receivedSince(t, before).Packets >= sent
		})
	}
}

// namesChecked is a ledger that also checks which interface a record tells of: more() gives each an
// address of its own.
type namesChecked struct{ *ledger }

func (l namesChecked) Write(r *flow.Record) error {
	want := farName
	if to := r.Dst.As4(); to[1] == 1 {
		want = linkName(farName, int(to[2]))
	}
	if len(r.Seen) != 1 || r.Seen[0].Interface != want {
		l.complain(r, "seen at %v, want %s", r.Seen, want)
	}
	return l.ledger.Write(r)
}

// removeGroup deletes all interfaces of the group at once: the kernel waits for those who still use one only
// once then, and not for each.
func (p *pair) removeGroup(t testing.TB) {
	t.Helper()
	inside(t, p.far, func() error {
		req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(p.group)))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}

// ChurnRounds is how often 40 hooks come and go in TestInterfaceChurn, so that numbers are given again: there are 1024.
const ChurnRounds = 26

var interfaceRounds = flag.Int("rounds", 0, "how often TestInterfaceChurn creates and deletes 20 interfaces; 0 is for enough to use up all numbers, or with -short 3")

// TestInterfaceChurn creates and deletes interfaces while traffic runs, more than there are hook numbers for:
// each packet is in exactly one record, and nothing is left.
func TestInterfaceChurn(t *testing.T) {
	const each = 20
	rounds := *interfaceRounds
	if rounds == 0 {
		rounds = scaled(ChurnRounds, 3)
	}
	p := newPair(t)
	cfg := p.discovering(t, ifaces.Watch)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	// Connections of the first interfaces have ended when numbers run out: until then theirs are not given back.
	cfg.Lifetimes = map[string]time.Duration{conntrack.StateUnreplied.String(): 5 * time.Second}
	l := newLedger()
	a, err := New(cfg, Options{Sink: namesChecked{l}})
	require.NoError(t, err)
	stop := run(t, a)
	quiet := p.trickle(t)
	var want bpf.Count
	p.group = 1 // of all that come and go
	for round := range uint16(rounds) {
		var links []*pair
		for n := range each {
			links = append(links, p.more(t, 1+n))
		}
		for _, q := range links {
			eventually(t, "a new interface to be watched", func() bool { return watches(t, a, q.farLink()) })
			q.send(t, q.udp(t, 1000+round, 2, 0), q.udp(t, 3000+round, 4, 100))
			want.Add(q.received(t))
		}
		links[0].remove(t) // one by itself, the others together
		p.removeGroup(t)
		for _, q := range links {
			eventually(t, "an interface to be let go", func() bool { return !watches(t, a, q.farLink()) })
		}
	}
	quiet()
	want.Add(p.received(t))
	eventually(t, "the last packets to pass the hook", func() bool { return sumOf(t, a).Seen.Packets >= want.Packets })
	sum := sumOf(t, a)
	s, err := control.Dial(cfg.Control).Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, stop())
	require.Equal(t, want, sum.Seen)
	require.Equal(t, want, sum.Accounted)
	require.Equal(t, want, l.sum, "sum of all records")
	require.Empty(t, l.wrong)
	require.Empty(t, s.Unwatched)
	if rounds < ChurnRounds {
		return // no number was given again
	}
	former := s.Hooks[len(s.Hooks)-1]
	require.Equal(t, control.FormerHooks, former.Hook.Interface)
	require.NotZero(t, former.Seen.Packets)
	require.LessOrEqual(t, len(s.Hooks), 1024)
}

// namedNamespace makes a namespace below the folder of names, as ip-netns(8) does.
func namedNamespace(t testing.TB, name string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(ifaces.Folder, 0o755))
	nstest.At(t, ifaces.Path(name))
}

// TestNamespaceChurn lets namespaces with an interface come and go while traffic runs. A namespace dies
// with its name: the agent does not keep it alive.
func TestNamespaceChurn(t *testing.T) {
	informers(t, func(t *testing.T, informer string) {
		modes(t, func(t *testing.T, mode string) {
			const rounds = 10
			p := newPair(t)
			cfg := p.discovering(t, informer)
			prefix := fmt.Sprintf("weir-test-%d-", os.Getpid())
			cfg.Discover.Namespaces = append(cfg.Discover.Namespaces, prefix+"*")
			cfg.Discover.Hook = mode
			cfg.Features = []string{FeatureNAT}
			l := newLedger()
			a, err := New(cfg, Options{Sink: l})
			require.NoError(t, err)
			stop := run(t, a)
			quiet := p.trickle(t)
			var want bpf.Count
			var fds int
			for n := range rounds {
				q := *p
				q.link = 1
				name := fmt.Sprintf("%s%d", prefix, n)
				namedNamespace(t, name)
				q.far = ifaces.Path(name)
				q.build(t)
				eventually(t, "the interface to be watched", func() bool { return watches(t, a, q.farLink()) })
				q.send(t, q.udp(t, uint16(1000+n), 2, 0))
				want.Add(q.received(t))
				nstest.Drop(q.far)
				eventually(t, "the namespace to die", func() bool {
					gone := false
					inside(t, q.near, func() error {
						_, err := netlink.LinkByName(q.nearLink())
						gone = err != nil
						return nil
					})
					return gone
				})
				eventually(t, "the interface to be let go", func() bool { return !watches(t, a, q.farLink()) })
				if n == 1 {
					fds = openFiles(t)
				}
			}
			const sockets = rounds - 2 // of send, one in each round
			eventually(t, "descriptors to go", func() bool { return openFiles(t) <= fds+sockets })
			quiet()
			want.Add(p.received(t))
			eventually(t, "the last packets to pass the hook", func() bool { return sumOf(t, a).Seen.Packets >= want.Packets })
			require.Equal(t, want, sumOf(t, a).Accounted)
			require.NoError(t, stop())
			require.Equal(t, want, l.sum, "sum of all records")
			require.Empty(t, l.wrong)
		})
	})
}

// TestDiscoverKilled kills an agent that discovers; meanwhile one interface goes and another one comes.
func TestDiscoverKilled(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	cfg.Interfaces, cfg.Discover = nil, p.discovering(t, ifaces.Watch).Discover
	q := p.more(t, 1)
	agent := startProcess(t, cfg)
	p.send(t, p.udp(t, 1, 2, 0))
	q.send(t, q.udp(t, 1, 2, 0))
	agent.kill(t)
	p.send(t, p.udp(t, 1, 2, 0))
	q.remove(t)
	r := p.more(t, 2)
	agent = startProcess(t, cfg)
	r.send(t, r.udp(t, 1, 2, 0))
	c, err := control.Dial(cfg.Control).Counters(t.Context())
	require.NoError(t, err)
	var names []string
	for _, h := range c.Hooks {
		names = append(names, h.Hook.String())
	}
	want := []string{}
	for _, link := range []*pair{p, q, r} {
		want = append(want, p.far+"/"+link.farLink()+" ingress", p.far+"/"+link.farLink()+" egress")
	}
	require.ElementsMatch(t, want, names, "what is gone is called as it was")
	agent.end(t)
	require.Equal(t, uint64(4), delivered(t, cfg.Output).Packets)
	for _, record := range readRecords(t, cfg.Output) {
		require.Contains(t, want, record.Seen[0].String())
	}
	require.Empty(t, p.attached(t))
	require.NoDirExists(t, cfg.Pin)
}

// TestNoLeakOfDiscovery counts what agents that discover leave in this process.
func TestNoLeakOfDiscovery(t *testing.T) {
	p := newPair(t)
	leavesNothing(t, func() {
		for _, mode := range []string{ifaces.Watch, ifaces.Poll} {
			a, err := New(p.discovering(t, mode), Options{Sink: newLedger()})
			require.NoError(t, err)
			stop := run(t, a)
			q := p.more(t, 1)
			eventually(t, "the interface to be watched", func() bool { return watches(t, a, q.farLink()) })
			q.remove(t)
			require.NoError(t, stop())
		}
	})
}
