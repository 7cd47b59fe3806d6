package traffic

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/capture"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// fan is how many ports the storm's bridge has. A poll of the backlog takes 64 packets at once,
// and the backlog holds 1000.
const fan = 250

// newStorm returns a function that fills the engine's backlog and then runs a step: a bridge
// copies a broadcast to many ports, and behind each a program does nothing for long. The kernel
// puts the rest of its work off to ksoftirqd, and what the engine sends has to wait behind it.
func newStorm(t *testing.T, e *Engine) func(*spec.Step) error {
	topology := fanTopology()
	net := testnet.Build(t, topology)
	p := slowProgram(t)
	require.NoError(t, net.Do("sink", func() error {
		for i := range fan {
			if err := attach(fmt.Sprintf("e%d", i), p.FD()); err != nil {
				return err
			}
		}
		return nil
	}))
	s, err := New(&spec.Scenario{Topology: *topology}, net)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	frame := Frame{Host: "source", Interface: "eth0", Data: make([]byte, 60)}
	copy(frame.Data, append(broadcast[:], 2, 1, 0, 0, 0, 0)) // a bridge takes no frames from 0
	return func(step *spec.Step) error {
		return e.thread.do(func() error {
			s.queued = 0
			if err := s.send(t.Context(), &frame); err != nil {
				return err
			}
			return e.run(t.Context(), step)
		})
	}
}

func fanTopology() *spec.Topology {
	mac := func(a, b int) [6]byte { return [6]byte{2, 1, 0, byte(a), 0, byte(b)} }
	source := spec.Host{Name: "source", Interfaces: []spec.Interface{{Name: "eth0", MAC: mac(0, 0)}}}
	sw := spec.Host{Name: "switch", Interfaces: []spec.Interface{{Name: "up", MAC: mac(0, 1)}}}
	sink := spec.Host{Name: "sink"}
	bridge := spec.Bridge{Host: "switch", Name: "br0", MAC: mac(0, 2), Ports: []string{"up"}}
	links := []spec.Link{{A: testnet.Port("source", "eth0"), B: testnet.Port("switch", "up")}}
	for i := range fan {
		a, b := fmt.Sprintf("p%d", i), fmt.Sprintf("e%d", i)
		sw.Interfaces = append(sw.Interfaces, spec.Interface{Name: a, MAC: mac(1, i)})
		sink.Interfaces = append(sink.Interfaces, spec.Interface{Name: b, MAC: mac(2, i)})
		bridge.Ports = append(bridge.Ports, a)
		links = append(links, spec.Link{A: testnet.Port("switch", a), B: testnet.Port("sink", b)})
	}
	return &spec.Topology{Hosts: []spec.Host{source, sw, sink}, Bridges: []spec.Bridge{bridge},
		Links: links}
}

// slowProgram takes some 100 microseconds.
func slowProgram(t *testing.T) *ebpf.Program {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R6, 3000),
			asm.FnKtimeGetNs.Call().WithSymbol("again"),
			asm.Sub.Imm(asm.R6, 1),
			asm.JNE.Imm(asm.R6, 0, "again"),
			asm.Mov.Imm(asm.R0, -1), // TC_ACT_UNSPEC: on to the next filter
			asm.Return(),
		}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func attach(name string, fd int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index,
		Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
	if err != nil {
		return err
	}
	return netlink.FilterAdd(&netlink.BpfFilter{Fd: fd, Name: "slow", DirectAction: true,
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS,
			Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL}})
}

// busy runs loops beside the test that never give up the CPU by themselves.
func busy(t *testing.T, n int) {
	before := runtime.GOMAXPROCS(runtime.NumCPU() + n)
	var stop atomic.Bool
	var done sync.WaitGroup
	for range n {
		done.Go(func() {
			for !stop.Load() {
			}
		})
	}
	t.Cleanup(func() {
		stop.Store(true)
		done.Wait()
		runtime.GOMAXPROCS(before)
	})
}

// exchangeStep is a script of n numbered datagrams in changing directions.
func exchangeStep(n int) spec.Step {
	u := &spec.UDP{Client: testnet.Endpoint("client", "10.0.1.2", 1),
		Server: testnet.Endpoint("server", "10.0.2.2", 2)}
	for i := range n {
		u.Script = append(u.Script, spec.Datagram{Payload: i % 1400, FromServer: i%3 == 1})
	}
	return spec.Step{Line: 1, UDP: u}
}

// inOrder tells how many of the packets that one namespace in the middle saw are where the
// script has them, counting from the first.
func inOrder(step spec.Step, packets []capture.Packet) int {
	for i, p := range packets {
		d := step.UDP.Script[min(i/2, len(step.UDP.Script)-1)]
		want := map[bool]string{false: "a", true: "b"}[(i%2 == 1) != d.FromServer]
		if len(p.Frame) != 14+20+8+d.Payload || p.Hook.Interface != want {
			return i
		}
	}
	return len(packets)
}

func orderBench(t *testing.T) (*Engine, *capture.Capture) {
	topology := testnet.Routed()
	net := testnet.Build(t, topology)
	e, err := New(&spec.Scenario{Topology: *topology}, net)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	c, err := capture.Open(net, topology,
		[]spec.Port{testnet.Port("r2", "a"), testnet.Port("r2", "b")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return e, c
}

// first lets the engine's thread go before ksoftirqd, whatever the scheduler owes that: the
// engine finds its packets still in the backlog, which otherwise happens by bad luck alone.
func first(t *testing.T, e *Engine) {
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	err := e.thread.do(func() error { return unix.SchedSetAttr(0, attr, 0) })
	if err != nil {
		t.Logf("the engine cannot go first: %v", err)
	}
}

// TestOrderUnderLoad: behind two hops, the second router sees thousands of packets exactly in
// the script's order, although the kernel puts off its work and four loops want the CPUs. Only
// one namespace is captured, so the order is the kernel's and not the merge's.
func TestOrderUnderLoad(t *testing.T) {
	e, c := orderBench(t)
	first(t, e)
	storm := newStorm(t, e)
	busy(t, 4)
	step, sent := exchangeStep(20), 0
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end) && sent < 2000; {
		require.NoError(t, storm(&step))
		packets, err := c.Drain()
		require.NoError(t, err)
		require.Len(t, packets, 2*len(step.UDP.Script))
		require.Equal(t, len(packets), inOrder(step, packets))
		sent += len(step.UDP.Script)
	}
	t.Logf("%d packets in order; %d of %d markers were late", sent, e.marker.late, e.marker.sequence)
	require.NotZero(t, sent)
}

// TestWithoutMarkersOrderIsLost is the control: the same load shows that the markers matter.
func TestWithoutMarkersOrderIsLost(t *testing.T) {
	e, c := orderBench(t)
	first(t, e)
	storm := newStorm(t, e)
	busy(t, 4)
	step, hops := exchangeStep(20), e.hops
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		e.hops = 0
		require.NoError(t, storm(&step))
		e.hops = hops
		require.NoError(t, e.Settle(t.Context()))
		packets, err := c.Drain()
		require.NoError(t, err)
		if n := inOrder(step, packets); n < 2*len(step.UDP.Script) {
			t.Logf("packet %d of %d is out of order", n, len(packets))
			return
		}
	}
	t.Skip("this kernel never put its work off, so the control shows nothing")
}

// TestWaitEnds: a wait that cannot end is an error, not a hang.
func TestWaitEnds(t *testing.T) {
	e, _ := orderBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := e.thread.do(func() error {
		e.marker.sequence++ // one that was never sent
		deadline, _ := ctx.Deadline()
		return e.marker.arrived(deadline)
	})
	require.ErrorIs(t, err, errStuck)
}

func TestEngineAfterClose(t *testing.T) {
	e, _ := orderBench(t)
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.Settle(t.Context()), errStoppedThread)
	require.NoError(t, e.Close())
}

// BenchmarkWait is what a wait costs when nothing else is going on.
func BenchmarkWait(b *testing.B) {
	th, err := startThread()
	if err != nil {
		b.Skip(err)
	}
	defer th.stop()
	var m *marker
	err = th.do(func() (err error) {
		m, err = newMarker()
		return err
	})
	if err != nil {
		b.Skip(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	_ = th.do(func() error { return m.pass(b.Context(), b.N) })
	_ = m.close()
}
