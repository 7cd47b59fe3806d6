package ipfix

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/export/certs"
)

// conn is a connection to a collector, which is not expected to answer.
type conn struct {
	net.Conn
	tcp  *net.TCPConn  // below Conn; nil: there is none
	gone chan struct{} // closed when the collector has closed a connection over tcp
}

// dial connects; files say that it is by TLS.
func dial(ctx context.Context, opts Options, files *certs.Files) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, opts.Transport, opts.Address)
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return &conn{Conn: c}, nil
	}
	if files != nil {
		secure, err := handshake(ctx, c, opts.Address, files)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c = secure
	}
	out := &conn{Conn: c, tcp: tcp, gone: make(chan struct{})}
	go out.watch()
	return out, nil
}

func handshake(ctx context.Context, c net.Conn, address string, files *certs.Files) (net.Conn, error) {
	config, err := files.Client()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if config.ServerName == "" {
		if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
	}
	secure := tls.Client(c, config)
	return secure, secure.HandshakeContext(ctx)
}

// watch reads until the connection ends: without it, an end is noticed only by what is lost.
func (c *conn) watch() {
	defer close(c.gone)
	_, _ = io.Copy(io.Discard, c.Conn) // however it ends, it has ended
}

func (c *conn) closed() bool {
	if c.tcp == nil {
		return false
	}
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// limit makes writes fail when the context ends, until free is called.
func (c *conn) limit(ctx context.Context) (free func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// errClosed tells that the collector has closed the connection.
var errClosed = errors.New("the collector has closed the connection")

// settle waits until the collector's host has everything that was written. Where the connection
// breaks before, what was written counts as not sent.
func (c *conn) settle(ctx context.Context) error {
	if c.tcp == nil {
		return nil
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		left, err := c.unacknowledged()
		switch {
		case err != nil:
			return err
		case c.closed():
			return errClosed
		case left == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.gone:
		case <-tick.C:
		}
	}
}

// unacknowledged is how many bytes the collector's host has not acknowledged.
func (c *conn) unacknowledged() (n int, err error) {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, errors.Join(err, failed)
}

// close ends the connection, and waits for the goroutine that watches it.
func (c *conn) close() error {
	err := c.Close()
	if c.tcp != nil {
		<-c.gone
	}
	return err
}
