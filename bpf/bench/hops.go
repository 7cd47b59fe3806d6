package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/program"
)

// hopCase is a way in which chains lead a packet from one member to the next.
type hopCase struct {
	way, what string
	kind      hook.Kind
	wiring    program.Wiring
	point     string // where the chain is attached, of package hook; "": a test run sends packets to its first program
	members   int
}

// few members are as many as each way has room for; many are as many as tail calls have room for.
const few, many = 8, 30

// hopCases are all ways, in the order of the table.
func hopCases() (all []hopCase) {
	for _, c := range []hopCase{
		{way: "xdp-link", what: "tail calls in XDP", kind: hook.XDP, wiring: program.TailCalls},
		{way: "xdp-dispatcher", what: "a dispatcher's calls of functions that were replaced", kind: hook.XDP, wiring: program.Dispatcher},
		{way: "tc", what: "tail calls behind a filter", kind: hook.Egress, wiring: program.TailCalls, point: hook.TC},
		{way: "tcx", what: "tail calls behind a link", kind: hook.Egress, wiring: program.TailCalls, point: hook.TCX},
		{way: "tcx-links", what: "the kernel's list of links", kind: hook.Egress, wiring: program.Links, point: hook.TCXLinks},
	} {
		for _, c.members = range []int{few, many} {
			if c.members > c.wiring.MaxMembers() {
				continue
			}
			all = append(all, c)
		}
	}
	return all
}

func (c *hopCase) name() string { return fmt.Sprintf("hop/%s/%d", c.way, c.members) }

// hops measures a case, round by round without hops and with them.
func (b *bench) hops(ctx context.Context, c *hopCase) (Figure, error) {
	f := Figure{Name: c.name(), Unit: PerHop,
		What: fmt.Sprintf("%s: from one member of %d that do nothing to the next", c.what, c.members)}
	one, all, err := c.measure(ctx, b.opts.Rounds, b.opts.Repeat)
	if errors.Is(err, errNoWay) {
		f.Missing = err.Error()
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.Empty = median(one)
	f.Ours = netOf(all, one)
	f.Ours.Median /= float64(c.members - 1)
	f.Ours.Best /= float64(c.members - 1)
	return f, nil
}

// countHops counts the instructions of a hop in each way that the kernel has, in the longest chain: what sending takes
// varies by some.
func countHops(all map[string]float64, each float64) error {
	for _, c := range hopCases() {
		if c.members == few && c.wiring.MaxMembers() >= many {
			continue
		}
		one, chain, err := c.measure(context.Background(), countedRounds, countedRepeat)
		if errors.Is(err, errNoWay) {
			continue
		}
		if err != nil {
			return fmt.Errorf("count instructions of %s: %w", c.name(), err)
		}
		hop := (slices.Min(chain) - slices.Min(one)) / float64(c.members-1) / each
		all["hop/"+c.way] = math.Round(hop*10) / 10
	}
	return nil
}

// errNoWay is why a way is not measured.
var errNoWay = errors.New("the kernel has no such chains")

// measure returns what packets take through a chain of one member, and through one of all, in ns, by round. Both end with
// a member that drops the packet.
func (c *hopCase) measure(ctx context.Context, rounds, repeat int) (one, all []float64, err error) {
	err = aside(func() (err error) {
		s, err := c.stand()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		for range rounds {
			for i, to := range []*[]float64{&one, &all} {
				ns, err := s.round(s.chains[i], repeat)
				if err := errors.Join(ctx.Err(), err); err != nil {
					return err
				}
				*to = append(*to, ns)
			}
		}
		return nil
	})
	return one, all, err
}

// hopStand are chains in a network namespace of their own, and what sends packets to them.
type hopStand struct {
	chains [2]*program.Generation // of one member, and of all
	point  hook.Point             // nil: packets are sent to the first program
	driver *ebpf.Program          // sends packets to the point
	pin    string
}

// stand makes the chains of a case. It must be called in the namespace.
func (c *hopCase) stand() (_ *hopStand, err error) {
	s := &hopStand{pin: filepath.Join(bpffs.Folder, fmt.Sprintf("weir-bench-%d", os.Getpid()))}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := c.wiring.Probe(); err != nil {
		return s, fmt.Errorf("%w: %w", errNoWay, err)
	}
	for i, n := range []int{1, c.members} {
		if s.chains[i], err = program.Build(c.kind, c.wiring, c.idle(n), nil); err != nil {
			return s, err
		}
	}
	if c.point == "" {
		return s, nil
	}
	if err := makeFolder(s.pin); err != nil {
		return s, fmt.Errorf("make a folder for links: %w", err)
	}
	at := hook.Target{Interface: loopback, Kind: c.kind, Pin: filepath.Join(s.pin, "link")}
	if err := hook.Probe(c.point, at); err != nil {
		return s, fmt.Errorf("%w: %w", errNoWay, err)
	}
	if s.point, err = hook.New(c.point, at); err != nil {
		return s, err
	}
	s.driver, err = loadSender()
	return s, err
}

func makeFolder(path string) error {
	if err := bpffs.Ensure(path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o700)
}

// idle are members that do nothing; the last one drops.
func (c *hopCase) idle(n int) (all []program.Member) {
	next := c.kind.Pass()
	for i := range n - 1 {
		all = append(all, program.Returning(c.kind, fmt.Sprintf("idle%d", i), next, next))
	}
	return append(all, program.Returning(c.kind, "last", c.kind.Drop(), next))
}

// loopback is the ifindex of the loopback interface, which each network namespace has from the beginning.
const loopback = 1

// loadSender loads a program that sends copies of its packets out of the loopback interface.
func loadSender() (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_sender", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, loopback),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnCloneRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load the program that sends: %w", err)
	}
	return p, nil
}

// dropped is what a packet comes to that the last member drops: XDP_DROP (linux/bpf.h), and NET_XMIT_DROP
// (linux/netdevice.h) of what is sent.
const dropped = 1

// round sends packets through a chain, and returns what one took in ns.
func (s *hopStand) round(g *program.Generation, repeat int) (_ float64, err error) {
	target := g.Heads()[0]
	if s.point != nil {
		if err := s.point.Swap(nil, g.Heads()); err != nil {
			return 0, fmt.Errorf("attach the chain: %w", err)
		}
		ids, err := g.HeadIDs()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, s.point.Remove(ids)) }()
		target = s.driver
	}
	if _, _, err := target.Benchmark(tcp4(ack).frame, repeat/10+1, nil); err != nil { // for the caches
		return 0, fmt.Errorf("send packets: %w", err)
	}
	verdict, took, err := target.Benchmark(tcp4(ack).frame, repeat, nil)
	if err != nil {
		return 0, fmt.Errorf("send packets: %w", err)
	}
	if verdict != dropped {
		return 0, fmt.Errorf("the last member has not dropped the packet: it came to %d", verdict)
	}
	return float64(took.Nanoseconds()), nil
}

func (s *hopStand) close() error {
	var errs []error
	for _, g := range s.chains {
		if g != nil {
			errs = append(errs, g.Close())
		}
	}
	if s.driver != nil {
		errs = append(errs, s.driver.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.pin))...)
}
