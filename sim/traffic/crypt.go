package traffic

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// crypt is a WireGuard interface. Its packets are encrypted and decrypted by workers of the kernel,
// whenever those get to it: no backlog tells when that is over. So what goes in at one end of the
// tunnel is counted, and what comes out at the other.
type crypt struct {
	port      spec.Port
	fd        int // a packet socket on the interface
	peer      *crypt
	sent, got int
}

// openCrypts listens on the WireGuard interfaces of the topology.
func (e *Engine) openCrypts(t *spec.Topology) error {
	byAddress := map[[2]string]*crypt{}
	for _, h := range t.Hosts {
		for _, i := range h.Interfaces {
			if i.Kind != spec.WireGuard {
				continue
			}
			c := &crypt{port: spec.Port{Host: h.Name, Interface: i.Name}, fd: -1}
			e.crypts = append(e.crypts, c)
			if err := e.net.Do(h.Name, func() error { return c.open(i.Index) }); err != nil {
				return fmt.Errorf("listen on %s: %w", c.port, err)
			}
			ends := [2]string{i.Tunnel.Local.String(), i.Tunnel.Remote.String()}
			byAddress[ends] = c
			if far := byAddress[[2]string{ends[1], ends[0]}]; far != nil {
				c.peer, far.peer = far, c
			}
		}
	}
	return nil
}

func (c *crypt) open(index int) (err error) {
	const kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if c.fd, err = unix.Socket(unix.AF_PACKET, kind, 0); err != nil {
		return err
	}
	return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
}

// read counts what has passed since the call before.
func (c *crypt) read() error {
	for {
		_, from, err := unix.Recvfrom(c.fd, nil, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENETDOWN):
			return nil
		case err != nil:
			return fmt.Errorf("listen on %s: %w", c.port, err)
		}
		if at, ok := from.(*unix.SockaddrLinklayer); ok && at.Pkttype == unix.PACKET_OUTGOING {
			c.sent++
		} else {
			c.got++
		}
	}
}

// decrypted waits until what went into tunnels has come out, and tells whether anything has since
// the call before.
func (e *Engine) decrypted(ctx context.Context) (moved bool, err error) {
	deadline := time.Now().Add(patience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	before := e.crypted()
	for _, c := range e.crypts {
		if err := errors.Join(c.read(), c.peer.read()); err != nil {
			return false, err
		}
		for c.peer.got < c.sent {
			if err := readable(c.peer.fd, deadline); err != nil {
				return false, fmt.Errorf("%s has got %d of %d packets: %w", c.peer.port, c.peer.got, c.sent, err)
			}
			if err := c.peer.read(); err != nil {
				return false, err
			}
		}
	}
	return e.crypted() != before, nil
}

// crypted is how many packets have come out of tunnels.
func (e *Engine) crypted() (n int) {
	for _, c := range e.crypts {
		n += c.got
	}
	return n
}
