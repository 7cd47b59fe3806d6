package agent

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

var (
	soakTime = flag.Duration("soak", 2*time.Second, "how long TestSoak sends")
	soakHeld = flag.Int("soak.held", 20_000, "how many connections TestSoak holds all the time, of which -short takes a tenth")
	soakNew  = flag.Int("soak.new", 20_000, "how many more it opens, which end, of which -short takes a tenth")
)

const (
	// soakRounds is how often each fault comes. In the first half of the rounds agents are killed; the second
	// half is the life of one agent, whose memory is looked at.
	soakRounds = 8
	// soakSweeps is how many sweeps a round has, at least.
	soakSweeps = 10
)

// soak is a machine under load, an agent on three of its interfaces, and a collector.
type soak struct {
	busy   *pair // carries the connections that are counted
	away   *pair // its interface goes away and comes back
	talks  *pair // the kernel's own TCP talks here
	cfg    Config
	client *control.Client
	agent  *process
	recv   *receiver
	told   *tally
	stop   func()    // of the collector
	held   int       // connections on busy, all the time
	fresh  int       // others on busy, in all rounds
	opened int       // of those
	sent   bpf.Count // on busy
	visits bpf.Count // sent on away
}

// Names of the pairs in the agent's hooks.
const busyPair, awayPair = "busy", "away"

// TestSoak has an agent hold many connections while others come and go, the collector goes down, tables
// change their size, interfaces vanish, and the agent itself is killed: every packet arrives in a record or
// is lost by reason, and an agent that lives on does not grow.
func TestSoak(t *testing.T) {
	s := newSoak(t)
	talks := []*talk{s.talks.converse(t), s.talks.converse(t)}
	var first, last usage
	for n := range soakRounds {
		last = s.round(t, n)
		if n == soakRounds/2 {
			first = last
		}
		t.Logf("round %d: %d opened, agent %s", n, s.opened, last)
	}
	for _, k := range talks {
		k.end(t)
	}
	// A connection of the collector's or a file of the spool can be on its way out.
	eventually(t, fmt.Sprintf("as few descriptors and goroutines as there were: %s", first), func() bool {
		last = s.agent.usage(t, s.cfg.Control)
		return last.fds <= first.fds && last.goroutines <= first.goroutines
	})
	require.Less(t, last.heap, first.heap+first.heap/4+4<<20, "bytes of the heap, from %d", first.heap)
	require.Less(t, last.resident, first.resident+first.resident/4+32<<20, "bytes resident, from %d", first.resident)
	s.finish(t)
}

// newSoak starts all, and opens the connections that are held.
func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{held: scaled(*soakHeld, *soakHeld/10), fresh: scaled(*soakNew, *soakNew/10), busy: newPair(t), away: newPair(t), talks: newPair(t), recv: newReceiver(t), told: newTally()}
	s.cfg = s.busy.pinned(t)
	s.cfg.Interfaces = nil
	for name, p := range map[string]*pair{busyPair: s.busy, awayPair: s.away, "talks": s.talks} {
		s.cfg.Interfaces = append(s.cfg.Interfaces, Interface{Name: farName, Namespace: p.far, As: name})
	}
	s.cfg.Interval = max(minEvery, *soakTime/soakRounds/soakSweeps)
	s.cfg.Active = s.cfg.Interval
	s.cfg.Table = Table{Size: (s.held + s.fresh) * 5 / 4, Full: "overflow"}
	s.cfg.Lifetimes = map[string]time.Duration{
		conntrack.StateUnreplied.String(): s.cfg.Interval, conntrack.StateReplied.String(): 24 * time.Hour}
	s.cfg.StopTimeout = *patience
	s.cfg.Output, s.cfg.Sinks = "", []SinkConfig{s.recv.config(t)}
	s.stop = s.recv.serve(t, s.told)
	s.client = control.Dial(s.cfg.Control)
	s.agent = startProcess(t, s.cfg)
	require.NoError(t, s.hold(s.busy.socket(t), s.dialogue(t), s.held))
	return s
}

// dialogue is a datagram, and its answer.
type dialogue struct{ ask, answer []byte }

func (s *soak) dialogue(t *testing.T) dialogue {
	p := s.busy
	back := &pair{nearIP: p.farIP, farIP: p.nearIP, nearMAC: p.nearMAC}
	return dialogue{p.udp(t, 0, 0, 30), back.udp(t, 0, 0, 60)}
}

const (
	portsOffset = 14 + 20 // of the UDP header in a frame; its checksum is not looked at
	heldPort    = 100     // the first destination port of those that are held
	newPort     = 40_000  // of others
)

// address sets a frame's ports for the nth connection to ports from `to` on.
func address(frame []byte, n, to int, back bool) {
	ports := [2]uint16{uint16(1000 + n%50_000), uint16(to + n/50_000)}
	if back {
		ports[0], ports[1] = ports[1], ports[0]
	}
	binary.BigEndian.PutUint16(frame[portsOffset:], ports[0])
	binary.BigEndian.PutUint16(frame[portsOffset+2:], ports[1])
}

// hold opens n connections in which both ends have spoken.
func (s *soak) hold(fd int, d dialogue, n int) error {
	for i := range n {
		address(d.ask, i, heldPort, false)
		address(d.answer, i, heldPort, true)
		for _, frame := range [][]byte{d.ask, d.answer} {
			if err := s.send(fd, frame); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *soak) send(fd int, frame []byte) error {
	s.sent.Add(bpf.Count{Packets: 1, Bytes: uint64(len(frame))})
	return transmit(fd, frame)
}

// load opens n connections at an even pace, and has one of those that are held speak with each.
func (s *soak) load(fd int, d dialogue, n int, over time.Duration) error {
	begin := time.Now()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for done := 0; done < n; {
		due := min(n, 1+int(float64(n)*float64(time.Since(begin))/float64(over)))
		for ; done < due; done++ {
			address(d.ask, s.opened, newPort, false)
			address(d.answer, s.opened%s.held, heldPort, true)
			s.opened++
			for _, frame := range [][]byte{d.ask, d.answer} {
				if err := s.send(fd, frame); err != nil {
					return err
				}
			}
		}
		<-pace.C
	}
	return nil
}

// round has each fault once under load, and returns what the agent uses when it is over.
func (s *soak) round(t *testing.T, n int) usage {
	t.Helper()
	fd, d := s.busy.socket(t), s.dialogue(t)
	loaded := make(chan error, 1)
	go func() { loaded <- s.load(fd, d, s.fresh/soakRounds, *soakTime/soakRounds) }()

	s.visit(t, n)
	s.stop()
	before := s.waiting(t)
	eventually(t, "records to wait", func() bool { return s.waiting(t) > before })
	require.NoError(t, s.client.Resize(t.Context(), s.cfg.Table.Size*(3+n%2)/2))
	if n < soakRounds/2 {
		s.vanish(t)
	}
	s.stop = s.recv.serve(t, s.told)
	require.NoError(t, <-loaded)
	eventually(t, "the collector to have what has waited", func() bool {
		stats := sinkStats(t, s.cfg)["grpc"]
		require.Empty(t, stats.Dropped)
		return !stats.Failing && stats.Held.Records < 1000
	})
	return s.agent.usage(t, s.cfg.Control)
}

// waiting is how many records the collector does not have.
func (s *soak) waiting(t *testing.T) uint64 { return sinkStats(t, s.cfg)["grpc"].Held.Records }

// vanish takes an interface away from under the agent, kills the agent, and starts the next one when there is
// an interface of that name again.
func (s *soak) vanish(t *testing.T) {
	t.Helper()
	inside(t, s.away.far, func() error {
		l, err := netlink.LinkByName(farName)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	require.NoError(t, s.client.Sweep(t.Context()))
	s.agent.kill(t)
	s.away.build(t)
	s.agent = startProcess(t, s.cfg)
}

// visit sends a packet to the interface that goes away, and waits until its hook has seen it.
func (s *soak) visit(t *testing.T, n int) {
	t.Helper()
	frame := s.away.udp(t, uint16(1000+n), 53, 10)
	s.away.send(t, frame)
	s.visits.Add(bpf.Count{Packets: 1, Bytes: uint64(len(frame))})
	eventually(t, "the packet to pass the hook", func() bool {
		seen, _, _ := s.books(t)
		return seen[awayPair] == s.visits
	})
}

// books reads what the hooks of each pair have seen and what all of them have accounted, and tells whether each has
// seen = accounted + observed + lost: it has not while a packet is on its way.
func (s *soak) books(t *testing.T) (seen map[string]bpf.Count, accounted bpf.Count, balanced bool) {
	t.Helper()
	c, err := s.client.Counters(t.Context())
	require.NoError(t, err)
	seen, balanced = map[string]bpf.Count{}, true
	for _, h := range c.Hooks {
		name := h.Hook.Namespace
		sum, parts := seen[name], h.Accounted
		sum.Add(h.Seen)
		seen[name] = sum
		parts.Add(h.Observed)
		for _, lost := range h.Lost {
			parts.Add(lost)
		}
		balanced = balanced && parts == h.Seen
		accounted.Add(h.Accounted)
	}
	return seen, accounted, balanced
}

// finish ends all and checks the books.
func (s *soak) finish(t *testing.T) {
	t.Helper()
	require.Equal(t, s.sent, s.busy.received(t), "sent and received by the interface")
	var accounted bpf.Count
	eventually(t, "the last packets to be in the books", func() bool {
		seen, all, balanced := s.books(t)
		accounted = all
		return balanced && seen[busyPair] == s.sent && seen[awayPair] == s.visits
	})
	s.agent.end(t)
	last := startProcess(t, s.cfg) // sends what that one may have left
	eventually(t, "the collector to have all", func() bool { return s.waiting(t) == 0 })
	last.end(t)
	s.stop()
	t.Logf("%d records of %d flows, each way; %+v accounted", s.told.records, len(s.told.to), accounted)
	require.Equal(t, accounted, s.told.sum, "accounted by the hooks, and told to the collector")
	require.NoDirExists(t, s.cfg.Pin)
}

// tally is a collector's sink that adds up what records tell, each packet once, and keeps none.
type tally struct {
	to      map[legKey]bpf.Count // what each leg's records reach up to
	sum     bpf.Count
	records uint64
}

func newTally() *tally { return &tally{to: map[legKey]bpf.Count{}} }

func (y *tally) Format() string { return "tally" }

// Append adds a record, all of it or what those before have not told.
func (y *tally) Append(b []byte, r flow.Report, _ int64) []byte {
	if r.Record == nil {
		return b
	}
	y.records++
	k := legOf(r.Record)
	fresh, to := untold(y.to[k], r.Record)
	y.sum.Add(fresh)
	y.to[k] = to
	return b
}

func (y *tally) Send(context.Context, []byte, int) error { return nil }
func (y *tally) Close() error                            { return nil }

// usage is what a process takes of its machine.
type usage struct {
	heap, resident  uint64 // bytes; of the heap, what is in use
	fds, goroutines int
}

func (u usage) String() string {
	return fmt.Sprintf("heap %.1f MiB, resident %.1f MiB, %d descriptors, %d goroutines",
		float64(u.heap)/(1<<20), float64(u.resident)/(1<<20), u.fds, u.goroutines)
}

// usage asks an agent's profiles, after a collection of garbage, and the kernel.
func (p *process) usage(t testing.TB, socket string) (u usage) {
	t.Helper()
	heap := profile(t, socket, "heap?gc=1&debug=1")
	_, rest, _ := strings.Cut(heap, "# HeapAlloc = ")
	_, err := fmt.Sscan(rest, &u.heap)
	require.NoError(t, err)
	_, err = fmt.Sscanf(profile(t, socket, "goroutine?debug=1"), "goroutine profile: total %d", &u.goroutines)
	require.NoError(t, err)
	u.resident = p.resident(t)
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	require.NoError(t, err)
	u.fds = len(all)
	return u
}

// resident is how many bytes a process has in memory, shared ones included.
func (p *process) resident(t testing.TB) (bytes uint64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rest, &bytes)
	require.NoError(t, err)
	return bytes << 10
}

// profile reads a profile of an agent.
func profile(t testing.TB, socket, name string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}
	resp, err := (&http.Client{Transport: transport}).Get("http://weir/debug/pprof/" + name)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}
