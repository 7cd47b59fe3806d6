package traffic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// Network is the topology as the engine needs it.
type Network interface {
	// Do runs f on an OS thread inside the host's network namespace. It is never called from
	// the engine's own thread.
	Do(host string, f func() error) error
	// Wire is the file behind an interface whose packets go through the engine: what is read was
	// sent from the interface, what is written arrives at it. It does not block.
	Wire(p spec.Port) (fd int, ok bool)
}

const (
	// maxQueued is how many frames are sent before a wait: the backlog of a CPU drops beyond
	// 1000 packets (net.core.netdev_max_backlog), and a bridge may multiply each.
	maxQueued = 128
	// patience is how long one wait may take. It is only ever reached when packets got stuck.
	patience = 10 * time.Second
)

// Groups are control groups for sockets to be made in.
type Groups interface {
	// In runs f with this process in the group of a path.
	In(path string, f func() error) error
}

// Engine sends the traffic of one scenario. Its methods may be called from any goroutine, one
// at a time.
type Engine struct {
	// Groups are for steps that name one.
	Groups Groups

	builder *Builder
	net     Network
	thread  *thread
	marker  *marker
	senders map[string]int    // packet sockets, by host
	indexes map[spec.Port]int // interface indexes, as far as they were needed
	hops    int               // markers per wait
	queued  int               // frames sent since the last wait
	wires   []*wire
	crypts  []*crypt
	frame   [1 << 16]byte // what pump reads into
}

// New makes an engine for the scenario, whose topology stands already. It needs the privilege
// to make network namespaces and packet sockets. Close releases it.
func New(sc *spec.Scenario, net Network) (*Engine, error) {
	t, err := startThread()
	if err != nil {
		return nil, err
	}
	e := &Engine{builder: NewBuilder(&sc.Topology), net: net, thread: t, hops: hops(&sc.Topology),
		senders: map[string]int{}, indexes: map[spec.Port]int{}}
	e.openWires(&sc.Topology)
	err = t.do(func() (err error) {
		e.marker, err = newMarker()
		return err
	})
	if err == nil {
		err = e.openCrypts(&sc.Topology)
	}
	for i := 0; err == nil && i < len(sc.Topology.Hosts); i++ {
		err = e.openSender(sc.Topology.Hosts[i].Name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the traffic engine: %w", err), e.Close())
	}
	return e, nil
}

// hops is how often a packet and what it leads to can be queued: over every link there and
// back, and then some. Neighbours are known from the start, so nobody asks for them first. Only
// packets that circle until their TTL is used up take more.
func hops(t *spec.Topology) int {
	n := 2*len(t.Links) + len(t.Bridges) + 2
	for _, h := range t.Hosts {
		for _, i := range h.Interfaces {
			if i.Tunnel != nil || i.Bond != nil || i.On.Host != "" {
				n += 2 // packets may be queued anew when they are taken out of it, or put into it
			}
		}
	}
	return n
}

// Run carries out one traffic step. When it returns, everything the step causes is over: all
// packets have passed all hooks. Errors start with the step's line; ErrNotTraffic is for steps
// that are none. After an error part of the step may have been sent.
func (e *Engine) Run(ctx context.Context, step *spec.Step) error {
	switch {
	case step.Impair != nil:
		return atLine(step.Line, e.impair(ctx, step.Impair))
	case step.Socket != nil:
		err := Check(step)
		if err == nil {
			err = e.socket(ctx, step.Socket)
		}
		return atLine(step.Line, err)
	case step.Packet == nil && step.TCP == nil && step.UDP == nil && step.Ping == nil &&
		step.Burst == nil && step.Replay == nil:
		return atLine(step.Line, ErrNotTraffic)
	}
	return atLine(step.Line, e.thread.do(func() error { return e.run(ctx, step) }))
}

func (e *Engine) run(ctx context.Context, step *spec.Step) error {
	for frame, err := range e.builder.Frames(step) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = e.send(ctx, &frame)
		}
		if err != nil {
			return err
		}
	}
	if err := e.wait(ctx); err != nil {
		return err
	}
	return e.release(ctx)
}

// send sends one frame, and waits where it has to.
func (e *Engine) send(ctx context.Context, f *Frame) error {
	port := spec.Port{Host: f.Host, Interface: f.Interface}
	fd, ok := e.senders[f.Host]
	if !ok {
		return fmt.Errorf("send from %s: the host was deleted", port)
	}
	index, err := e.index(fd, port)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: e.protocol(port, f.Data)}
	if err := retry(func() error { return unix.Sendto(fd, f.Data, 0, to) }); err != nil {
		return fmt.Errorf("send %d bytes from %s: %w", len(f.Data), port, err)
	}
	e.queued++
	if f.Wait || e.queued >= maxQueued {
		return e.wait(ctx)
	}
	return nil
}

// protocol is the type of a frame without an Ethernet header, in the network's byte order; 0 lets
// the kernel read it from the frame.
func (e *Engine) protocol(p spec.Port, frame []byte) uint16 {
	i := e.builder.net.iface(p)
	switch {
	case i == nil || !i.Kind.L3() || len(frame) == 0:
		return 0
	case frame[0]>>4 == 6:
		return networkOrder(unix.ETH_P_IPV6)
	}
	return networkOrder(unix.ETH_P_IP)
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// wait returns when everything that was sent, and everything that follows from it, is over.
func (e *Engine) wait(ctx context.Context) error {
	if e.queued == 0 {
		return nil
	}
	e.queued = 0
	return e.pass(ctx)
}

// pass lets the CPU finish with its packets, also with those that the engine carries on the way.
// Where others than this CPU take part, it is all CPUs.
func (e *Engine) pass(ctx context.Context) error {
	for {
		if err := e.marker.pass(ctx, e.hops); err != nil {
			return err
		}
		n, err := e.pump()
		if err != nil {
			return err
		}
		moved, err := e.decrypted(ctx)
		if err != nil {
			return err
		}
		if moved {
			err = e.passOthers(ctx)
		}
		if n == 0 && !moved || err != nil {
			return err
		}
	}
}

// passOthers lets the other CPUs finish.
func (e *Engine) passOthers(ctx context.Context) error {
	for _, cpu := range e.thread.cpus[1:] {
		if err := pin(cpu); err != nil {
			return err
		}
		if err := e.marker.pass(ctx, e.hops); err != nil {
			return errors.Join(fmt.Errorf("settle CPU %d: %w", cpu, err), pin(e.thread.cpus[0]))
		}
	}
	return pin(e.thread.cpus[0])
}

// Settle waits until all CPUs have finished with the packets that are under way on them. Run
// does so for what it sends; Settle is for packets that others sent.
func (e *Engine) Settle(ctx context.Context) error {
	return e.thread.do(func() error { return e.settle(ctx) })
}

func (e *Engine) settle(ctx context.Context) error {
	return errors.Join(e.passOthers(ctx), e.pass(ctx))
}

// openSender makes the host's packet socket. Its protocol is 0, so it receives nothing.
func (e *Engine) openSender(host string) error {
	fd := -1
	err := e.net.Do(host, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("open a packet socket on %s: %w", host, err)
	}
	e.senders[host] = fd
	// A full send buffer only makes the engine slower, so a kernel that refuses is no matter.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20)
	return nil
}

// Leave lets go of a host that is to be deleted.
func (e *Engine) Leave(host string) error {
	fd, ok := e.senders[host]
	if !ok {
		return nil
	}
	delete(e.senders, host)
	return unix.Close(fd)
}

// Join makes the engine send from a host that is there again.
func (e *Engine) Join(host string) error { return e.openSender(host) }

// index asks the kernel, not the scenario: what counts is the interface that is there. The
// ioctl answers for the namespace in which the socket was made.
func (e *Engine) index(fd int, p spec.Port) (int, error) {
	if i, ok := e.indexes[p]; ok {
		return i, nil
	}
	request, err := unix.NewIfreq(p.Interface)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
	}
	if err != nil {
		return 0, fmt.Errorf("find interface %s: %w", p, err)
	}
	e.indexes[p] = int(request.Uint32())
	return e.indexes[p], nil
}

// Close releases sockets, the engine's namespace and its thread. It may be called twice.
func (e *Engine) Close() error {
	var errs []error
	for host, fd := range e.senders {
		errs = append(errs, unix.Close(fd))
		delete(e.senders, host)
	}
	for _, c := range e.crypts {
		if c.fd >= 0 {
			errs = append(errs, unix.Close(c.fd))
		}
	}
	e.crypts = nil
	if e.marker != nil {
		errs = append(errs, e.marker.close())
		e.marker = nil
	}
	e.thread.stop()
	return errors.Join(errs...)
}

// retry repeats a system call that a signal interrupted; Go's runtime sends itself many.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
