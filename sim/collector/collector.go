package collector

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage is the largest UDP payload.
const maxMessage = 65535

// Collector listens, and writes what it hears.
type Collector struct {
	conn *net.UDPConn
	out  *bufio.Writer
	done chan struct{}

	mu        sync.Mutex // guards what is below
	exporters map[netip.AddrPort]*Decoder
	stats     Stats
	err       error
}

// Stats tell what became of the messages.
type Stats struct{ Messages, Records, Malformed, WithoutTemplate int }

// Listen begins to receive on an address, like 127.0.0.1:0, and to write records into out.
func Listen(on string, out io.Writer) (*Collector, error) {
	where, err := net.ResolveUDPAddr("udp", on)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	conn, err := net.ListenUDP("udp", where)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	c := &Collector{conn: conn, out: bufio.NewWriter(out), done: make(chan struct{}),
		exporters: map[netip.AddrPort]*Decoder{}}
	go c.run()
	return c, nil
}

// Addr is where it listens.
func (c *Collector) Addr() string { return c.conn.LocalAddr().String() }

// run receives until Close says that it is enough.
func (c *Collector) run() {
	defer close(c.done)
	buf := make([]byte, maxMessage)
	for {
		n, from, err := c.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.mu.Lock()
				c.err = err
				c.mu.Unlock()
			}
			return
		}
		c.take(buf[:n], from)
	}
}

// take writes the records of a message, and counts what cannot be read.
func (c *Collector) take(message []byte, from netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.exporters[from]
	if d == nil {
		d = NewDecoder()
		c.exporters[from] = d
	}
	records, err := d.Decode(message)
	c.stats.Messages++
	if err != nil {
		c.stats.Malformed++
	}
	for _, r := range records {
		line, err := json.Marshal(r)
		if err == nil {
			_, err = c.out.Write(append(line, '\n'))
		}
		if err != nil && c.err == nil {
			c.err = fmt.Errorf("write a record: %w", err)
		}
		c.stats.Records++
	}
}

// Close takes what has arrived already, and ends.
func (c *Collector) Close() (Stats, error) {
	err := c.conn.SetReadDeadline(time.Now()) // wakes the reader
	<-c.done
	if err == nil {
		err = c.drain()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.exporters {
		c.stats.WithoutTemplate += d.Skipped
	}
	return c.stats, errors.Join(err, c.err, c.out.Flush(), c.conn.Close())
}

// drain reads what is in the socket without waiting for more.
func (c *Collector) drain() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, maxMessage)
	var failed error
	err = raw.Control(func(fd uintptr) {
		for {
			n, from, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return
			case err != nil:
				failed = err
				return
			default:
				c.take(buf[:n], addressOf(from))
			}
		}
	})
	return errors.Join(err, failed)
}

func addressOf(from unix.Sockaddr) netip.AddrPort {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}
