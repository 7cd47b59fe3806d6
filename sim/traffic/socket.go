package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// socketTime is how long a step with real sockets may take.
const socketTime = 60 * time.Second

// chunk is how much is written to or read from a socket at a time.
const chunk = 16384

// datagram is the payload of one UDP datagram of a socket step: it fits through any usual link.
const datagram = 1200

// exchange is one step with real sockets. Both ends are driven by the engine's thread, bound to
// its CPU: so the order of their actions is fixed, and their packets take the same backlog as
// all others.
type exchange struct {
	step                   *spec.Socket
	from, to               netip.AddrPort
	listener, client, peer int
	deadline               time.Time
	wait                   func() error // until the CPU has finished with its packets
}

func (e *Engine) socket(ctx context.Context, s *spec.Socket) error {
	w, err := e.builder.net.way(s.From, s.To)
	if err != nil {
		return err
	}
	x := &exchange{step: s, listener: -1, client: -1, peer: -1,
		from: netip.AddrPortFrom(w.from, s.From.Port), to: netip.AddrPortFrom(w.to, s.To.Port),
		deadline: time.Now().Add(socketTime)}
	if d, ok := ctx.Deadline(); ok && d.Before(x.deadline) {
		x.deadline = d
	}
	x.wait = func() error { return e.marker.pass(ctx, e.hops) }
	if err := x.open(e.net, e.Groups); err != nil {
		return errors.Join(err, x.close())
	}
	err = e.thread.do(func() error {
		run := x.udp
		if s.Network == "tcp" {
			run = x.tcp
		}
		stop := e.carryOn()
		if err := errors.Join(run(), stop()); err != nil {
			return err
		}
		return e.settle(ctx)
	})
	return errors.Join(err, x.close())
}

// open makes the sockets inside their hosts; a socket belongs for life to the namespace and to the
// control group in which it was made, whoever uses it. What a listener accepts belongs to its group.
func (x *exchange) open(net Network, groups Groups) (err error) {
	kind := unix.SOCK_DGRAM
	if x.step.Network == "tcp" {
		kind = unix.SOCK_STREAM
	}
	family := unix.AF_INET
	if x.to.Addr().Is6() {
		family = unix.AF_INET6
	}
	ends := []struct {
		fd    *int
		host  string
		group string
		at    netip.AddrPort
	}{{&x.listener, x.step.To.Host, x.step.ServerGroup, x.to}, {&x.client, x.step.From.Host, x.step.ClientGroup, x.from}}
	for _, end := range ends {
		open := func() error {
			return net.Do(end.host, func() (err error) {
				kind := kind | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
				*end.fd, err = unix.Socket(family, kind, 0)
				return err
			})
		}
		switch {
		case end.group == "":
			err = open()
		case groups == nil:
			err = errors.New("control groups are not to be had")
		default:
			err = groups.In(end.group, open)
		}
		if err != nil {
			return fmt.Errorf("open a socket on %s: %w", end.host, err)
		}
		if err := bind(*end.fd, end.at); err != nil {
			return fmt.Errorf("bind to %s on %s: %w", end.at, end.host, err)
		}
	}
	return nil
}

func bind(fd int, at netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	return unix.Bind(fd, sockaddr(at))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// stage is a part of an exchange.
type stage struct {
	what string
	do   func() error
}

// tcp connects, sends, answers, and ends the connection, from the client's side first. It returns when
// both sockets have left the connection: the client's in TIME_WAIT, which sends nothing any more.
func (x *exchange) tcp() error {
	if x.step.End == "refused" {
		return x.refused()
	}
	if err := unix.Listen(x.listener, 1); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := x.connect(); err != nil {
		return fmt.Errorf("connect to %s: %w", x.to, err)
	}
	for _, s := range x.stages() {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// stages are what happens on a connection that stands.
func (x *exchange) stages() []stage {
	send := stage{"send to the listener", func() error { return x.transfer(x.client, x.peer, x.step.Bytes) }}
	reply := stage{"send the reply", func() error { return x.transfer(x.peer, x.client, x.step.Reply) }}
	client := stage{"close the client's side", func() error { return x.finish(x.client, x.peer) }}
	listener := stage{"close the listener's side", func() error { return x.finish(x.peer, x.client) }}
	gone := stage{"end the connection", func() error { return x.gone(x.client, x.peer) }}
	switch x.step.End {
	case "half-close":
		return []stage{send, client, reply, listener, gone}
	case "reset":
		return []stage{send, reply, {"reset the connection", x.reset}}
	}
	return []stage{send, reply, client, listener, gone}
}

// refused connects to where nobody listens.
func (x *exchange) refused() error {
	err := unix.Connect(x.client, sockaddr(x.to))
	if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		if err := poll(x.client, unix.POLLOUT, x.deadline); err != nil {
			return err
		}
		code, failed := unix.GetsockoptInt(x.client, unix.SOL_SOCKET, unix.SO_ERROR)
		if err = failed; err == nil {
			err = unix.Errno(code)
		}
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("connect to %s, where nobody listens: want it refused, got %w", x.to, err)
	}
	return nil
}

// reset makes the client's kernel send RST, and waits until the other side has seen it.
func (x *exchange) reset() error {
	at := &unix.Linger{Onoff: 1, Linger: 0}
	if err := unix.SetsockoptLinger(x.client, unix.SOL_SOCKET, unix.SO_LINGER, at); err != nil {
		return fmt.Errorf("set SO_LINGER: %w", err)
	}
	fd := x.client
	x.client = -1
	if err := unix.Close(fd); err != nil {
		return err
	}
	for {
		if err := readable(x.peer, x.deadline); err != nil {
			return err
		}
		switch _, err := unix.Read(x.peer, make([]byte, 1)); {
		case errors.Is(err, unix.ECONNRESET):
			return nil
		case err == nil:
			return errors.New("the listener's side was not reset")
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("read: %w", err)
		}
	}
}

func (x *exchange) connect() error {
	err := unix.Connect(x.client, sockaddr(x.to))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		return err
	}
	if err := poll(x.client, unix.POLLOUT, x.deadline); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(x.client, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return err
	}
	if err := readable(x.listener, x.deadline); err != nil {
		return err
	}
	x.peer, _, err = unix.Accept4(x.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	// Without Nagle's algorithm no segment waits for an acknowledgement, and so for a timer.
	for _, fd := range []int{x.client, x.peer} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return fmt.Errorf("set TCP_NODELAY: %w", err)
		}
	}
	return nil
}

// transfer moves n bytes through the connection, reading all along so that no window closes.
func (x *exchange) transfer(from, to, n int) error {
	data, sink := pattern(chunk).data, make([]byte, chunk)
	sent, got := 0, 0
	for got < n {
		wrote, err := again(unix.Write(from, data[:min(chunk, n-sent)]))
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		sent += wrote
		read, err := again(unix.Read(to, sink))
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		got += read
		if wrote > 0 || read > 0 {
			continue
		}
		if err := readable(to, x.deadline); err != nil {
			return err
		}
	}
	return nil
}

// again makes "not now" a success with nothing done.
func again(n int, err error) (int, error) {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return n, err
}

// finish closes one side's direction and waits until the other has seen it.
func (x *exchange) finish(from, to int) error {
	if err := unix.Shutdown(from, unix.SHUT_WR); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	for {
		if err := readable(to, x.deadline); err != nil {
			return err
		}
		n, err := unix.Read(to, make([]byte, 1))
		switch {
		case err == nil && n == 0:
			return nil
		case err == nil:
			return errors.New("more data than was sent")
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("read: %w", err)
		}
	}
}

// tcpClosed is TCP_CLOSE of the kernel's net/tcp_states.h. A socket whose connection went to
// TIME_WAIT is in it as well: a stand-in waits in its place.
const tcpClosed = 7

// gone waits until the kernel has let the connection go on both ends.
func (x *exchange) gone(fds ...int) error {
	for _, fd := range fds {
		for {
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				return fmt.Errorf("get TCP state: %w", err)
			}
			if info.State == tcpClosed {
				break
			}
			if time.Now().After(x.deadline) {
				return fmt.Errorf("a socket is still in TCP state %d: %w", info.State, errStuck)
			}
			if err := x.wait(); err != nil {
				return err
			}
		}
	}
	return nil
}

// udp sends datagrams one by one, each received before the next is sent.
func (x *exchange) udp() error {
	if err := unix.Connect(x.client, sockaddr(x.to)); err != nil {
		return fmt.Errorf("connect to %s: %w", x.to, err)
	}
	from, err := unix.Getsockname(x.client)
	if err != nil {
		return fmt.Errorf("get the client's address: %w", err)
	}
	if err := x.datagrams(x.client, x.listener, x.step.Bytes); err != nil {
		return fmt.Errorf("send to the listener: %w", err)
	}
	if x.step.Reply == 0 {
		return nil
	}
	if err := unix.Connect(x.listener, from); err != nil {
		return fmt.Errorf("connect back: %w", err)
	}
	if err := x.datagrams(x.listener, x.client, x.step.Reply); err != nil {
		return fmt.Errorf("send the reply: %w", err)
	}
	return nil
}

// datagrams sends n bytes; no bytes are one empty datagram.
func (x *exchange) datagrams(from, to, n int) error {
	data := pattern(datagram).data
	for first := true; first || n > 0; first = false {
		size := min(n, datagram)
		if _, err := unix.Write(from, data[:size]); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := readable(to, x.deadline); err != nil {
			return err
		}
		if _, err := unix.Read(to, make([]byte, datagram)); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		n -= size
	}
	return nil
}

func (x *exchange) close() error {
	var errs []error
	for _, fd := range []int{x.client, x.peer, x.listener} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
