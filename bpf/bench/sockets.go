package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/trace"
)

// socketCase is what a feature that traces the kernel costs what it traces. No packet can be put through
// such a program alone: sockets make the kernel pass it, without the feature and with it.
type socketCase struct {
	name, what string
	on         trace.Options
	open       func() (exchange func() error, close func(), err error)
}

var socketCases = []socketCase{
	{name: "feature/drops", on: trace.Options{Drops: true}, open: dropping,
		what: "the feature drops: what it adds to a datagram that the kernel drops"},
	{name: "feature/rtt", on: trace.Options{RTT: true}, open: echoing,
		what: "the feature rtt: what it adds to a line over TCP and its echo, two packets with data"},
}

// socketRepeat is how many exchanges a round has for each packet of a round of a test run: each takes
// the kernel's whole network stack, not a program alone.
const socketRepeat = 20

// sockets measures a case in a namespace of its own, round by round without the feature and with it.
func (b *bench) sockets(ctx context.Context, c *socketCase) (Figure, error) {
	f := Figure{Name: c.name, What: c.what, Unit: PerExchange}
	var without, with []float64
	err := aside(func() error {
		exchange, done, err := c.open()
		if err != nil {
			return err
		}
		defer done()
		n := max(10, b.opts.Repeat/socketRepeat)
		for range b.opts.Rounds {
			off, on, err := c.round(n, exchange)
			if err := errors.Join(ctx.Err(), err); err != nil {
				return err
			}
			without, with = append(without, off), append(with, on)
		}
		return nil
	})
	if errors.Is(err, errCannotRun) {
		f.Missing = err.Error()
		return f, nil
	}
	if err == nil {
		f.Empty, f.Ours = median(without), netOf(with, without)
	}
	return f, err
}

// errCannotRun is why a feature is not measured.
var errCannotRun = errors.New("the feature cannot run here")

// round measures n exchanges without the feature, and n with it, in ns each.
func (c *socketCase) round(n int, exchange func() error) (off, on float64, err error) {
	if off, err = timed(n, exchange); err != nil {
		return 0, 0, err
	}
	t, err := trace.Open(c.on)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errCannotRun, err)
	}
	on, err = timed(n, exchange)
	return off, on, errors.Join(err, t.Close())
}

// timed carries out n exchanges, after a tenth as many, and returns what one took, in ns.
func timed(n int, exchange func() error) (float64, error) {
	var start time.Time
	for i := -n / 10; i < n; i++ {
		if i == 0 {
			start = time.Now()
		}
		if err := exchange(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(n), nil
}

// aside calls fn on a thread in a network namespace of its own, with a loopback interface.
func aside(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and the namespace with it
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("make a network namespace: %w", err)
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return fmt.Errorf("set lo up: %w", err)
			}
			return fn()
		}()
	}()
	return <-done
}

// dropping sends datagrams to a port on which nobody listens.
func dropping() (exchange func() error, done func(), err error) {
	c, err := net.ListenUDP("udp4", nil) // not connected: it is not told that nobody listens
	if err != nil {
		return nil, nil, err
	}
	nobody := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	line := []byte("hello\n")
	return func() error {
		_, err := c.WriteToUDP(line, nobody)
		return err
	}, func() { c.Close() }, nil
}

// echoing sends lines to and fro between two sockets.
func echoing() (exchange func() error, done func(), err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	s, err := l.Accept()
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	line := []byte("hello\n")
	return func() error {
		for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
			if _, err := way[0].Write(line); err != nil {
				return err
			}
			if _, err := io.ReadFull(way[1], line); err != nil {
				return err
			}
		}
		return nil
	}, func() { c.Close(); s.Close() }, nil
}
