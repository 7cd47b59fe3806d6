package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

const (
	// bufferSize of a socket holds what passes until the reader gets its turn. The kernel
	// counts each packet with its overhead, up to 2.5 kB for a small one.
	bufferSize = 64 << 20
	// chunkSize is in which pieces memory for frames is taken.
	chunkSize = 256 << 10
)

// tap hears all interfaces of one namespace. A goroutine empties the socket all the time, so
// that what a long step sends does not pile up in the kernel.
type tap struct {
	host  string
	file  *os.File
	conn  syscall.RawConn
	ports map[int]spec.Port // by interface index
	done  chan struct{}     // closed when the reader has ended

	mu     sync.Mutex // guards what is below, and the order of reading
	batch  *batch
	events []event
	chunk  []byte
	err    error
}

// openTap listens in the host's namespace. Each of the wanted ports there has to exist.
func openTap(net Network, topology *spec.Topology, host string, wanted []spec.Port) (*tap, error) {
	t := &tap{host: host, ports: map[int]spec.Port{}, done: make(chan struct{})}
	fd := -1
	err := net.Do(host, func() (err error) {
		const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
		fd, err = unix.Socket(unix.AF_PACKET, kind, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	// Not blocking, so the runtime's poller takes it and Close wakes the reader.
	t.file = os.NewFile(uintptr(fd), "capture "+host)
	largest, err := t.findPorts(fd, topology, wanted)
	if err == nil {
		t.batch = newBatch(largest)
		err = listen(fd)
	}
	if err == nil {
		t.conn, err = t.file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, t.file.Close())
	}
	go t.run()
	return t, nil
}

// listen sets the socket up and only then binds it: before, it hears nothing.
func listen(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize); err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return fmt.Errorf("ask for VLAN tags: %w", err)
	}
	all := &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8}
	if err := unix.Bind(fd, all); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// findPorts asks the kernel for the indexes of the host's interfaces and bridges; it returns the
// size of the largest frame that they carry.
func (t *tap) findPorts(fd int, topology *spec.Topology, wanted []spec.Port) (int, error) {
	names, largest := map[string]bool{}, 1500
	for _, h := range topology.Hosts {
		for _, i := range h.Interfaces {
			if h.Name == t.host {
				names[i.Name] = true
				largest = max(largest, i.MTU)
			}
		}
	}
	for _, b := range topology.Bridges {
		if b.Host == t.host {
			names[b.Name] = true
		}
	}
	for _, p := range wanted {
		if p.Host == t.host {
			names[p.Interface] = true
		}
	}
	for name := range names {
		p := spec.Port{Host: t.host, Interface: name}
		request, err := unix.NewIfreq(name)
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
		}
		if err != nil && slices.Contains(wanted, p) {
			return 0, fmt.Errorf("find interface %s: %w", name, err)
		}
		if err == nil {
			t.ports[int(request.Uint32())] = p
		}
	}
	return largest + 14 + 2*4, nil // the link header and up to two VLAN tags
}

// run empties the socket whenever there is something in it.
func (t *tap) run() {
	defer close(t.done)
	// The error is that the file was closed; read keeps its own.
	_ = t.conn.Read(func(fd uintptr) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.read(int(fd))
		return t.err != nil
	})
}

// read takes everything out of the socket. The caller holds the lock.
func (t *tap) read(fd int) {
	for t.err == nil {
		n, err := t.batch.receive(fd)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			t.err = fmt.Errorf("receive: %w", err)
			return
		}
		for i := range n {
			t.take(t.batch.message(i))
		}
	}
}

// take keeps a message when it is of an interface of the scenario.
func (t *tap) take(m message) {
	port, ok := t.ports[m.index]
	if !ok || t.err != nil {
		return
	}
	if m.cut {
		t.err = fmt.Errorf("a frame on %s is larger than the interface's MTU allows: "+
			"segmentation offload is on", port)
		return
	}
	frame := t.space(len(m.data) + 4)[:0]
	if m.tagged && len(m.data) >= 12 {
		frame = append(frame, m.data[:12]...)
		frame = binary.BigEndian.AppendUint16(frame, m.tpid)
		frame = binary.BigEndian.AppendUint16(frame, m.tci)
		frame = append(frame, m.data[12:]...)
	} else {
		frame = append(frame, m.data...)
	}
	t.events = append(t.events, event{port: port, egress: m.outgoing, frame: frame})
}

// space returns n bytes of memory that belong to the caller alone.
func (t *tap) space(n int) []byte {
	if len(t.chunk) < n {
		t.chunk = make([]byte, max(n, chunkSize))
	}
	s := t.chunk[:n:n]
	t.chunk = t.chunk[n:]
	return s
}

// drain reads what is left in the socket and hands over all events. Control, other than Read,
// does not wait for the reader.
func (t *tap) drain() ([]event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var statsErr error
	err := t.conn.Control(func(fd uintptr) {
		t.read(int(fd))
		statsErr = lost(int(fd))
	})
	events := t.events
	t.events = nil
	return events, errors.Join(err, t.err, statsErr)
}

// lost reports packets for which the socket had no room. Reading the counters resets them.
func lost(fd int) error {
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return fmt.Errorf("read packet statistics: %w", err)
	}
	if s.Drops > 0 {
		return fmt.Errorf("%d of %d packets found the socket's buffer full", s.Drops, s.Packets)
	}
	return nil
}

func (t *tap) close() error {
	err := t.file.Close()
	<-t.done
	return err
}
