package nat

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the kernel may take to show all that it tracks, and to come to the end of
// its events: a million entries are shown in some seconds.
const patience = 30 * time.Second

// Listener keeps a table up to date with the connection tracking of one network namespace: it reads
// all entries at the start, then follows events. When the kernel has lost events because they were
// not read fast enough, all entries are read again.
type Listener struct {
	namespace string
	table     *Table
	sock      *socket
	ended     chan struct{} // when the reader has ended

	epoch uint64 // number of dumps; the reader's

	mu      sync.Mutex
	changed chan struct{} // closed when something below changes, and made anew
	seq     uint32        // of the last request
	dump    uint32        // of the dump that runs; 0: none does
	again   bool          // events were lost while it ran
	asked   uint32        // the last mark behind the events
	reached uint32        // the last one that was read
	err     error         // why the reader has ended
}

// Listen begins to listen in the calling thread's network namespace, which it puts into the table
// under a name. When it returns, what the kernel tracked at the moment is in the table. The error
// says why the kernel cannot tell. A namespace lives on as long as it is listened to.
func Listen(namespace string, table *Table) (*Listener, error) {
	sock, err := open(groupNew, groupDestroy)
	if err != nil {
		return nil, err
	}
	l := &Listener{namespace: namespace, table: table, sock: sock, ended: make(chan struct{}),
		changed: make(chan struct{})}
	l.mu.Lock()
	err = l.startDump()
	l.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, sock.close())
	}
	go l.read()
	err = l.wait(func() bool { return l.dump == 0 })
	if err == nil {
		err = eventsOn()
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// eventsOn tells why the kernel sends no events in the thread's namespace, if it sends none.
func eventsOn() error {
	const file = "/proc/sys/net/netfilter/nf_conntrack_events"
	value, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the kernel's connection tracking sends no events (CONFIG_NF_CONNTRACK_EVENTS)")
	}
	if err != nil {
		return fmt.Errorf("find out whether connection tracking sends events: %w", err)
	}
	if strings.TrimSpace(string(value)) == "0" {
		return errors.New("connection tracking sends no events: net.netfilter.nf_conntrack_events is 0")
	}
	return nil
}

// Catch returns when all that the kernel has tracked before the call is in the table. The kernel
// queues an event before it sends the packet on, so that is everything that packets already seen
// behind the translation have led to.
func (l *Listener) Catch() error {
	l.mu.Lock()
	l.seq++
	mine := l.seq
	l.asked = mine
	l.mu.Unlock()
	if err := l.mark(mine); err != nil {
		return err
	}
	return l.wait(func() bool { return l.dump == 0 && !later(mine, l.reached) })
}

// later tells whether a comes after b; numbers wrap.
func later(a, b uint32) bool { return int32(a-b) > 0 }

// mark puts a mark behind the events that are queued: the answer to a request that does nothing.
func (l *Listener) mark(seq uint32) error {
	return l.sock.request(unix.NLMSG_NOOP, unix.NLM_F_ACK, seq)
}

// Close ends listening. What was learnt stays in the table.
func (l *Listener) Close() error {
	err := l.sock.close()
	<-l.ended
	return err
}

// wait waits until a condition holds, which is judged under the lock.
func (l *Listener) wait(met func() bool) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		l.mu.Lock()
		done, err, changed := met(), l.err, l.changed
		l.mu.Unlock()
		switch {
		case err != nil:
			return err
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-late.C:
			return fmt.Errorf("connection tracking of %s does not answer within %v",
				named(l.namespace), patience)
		}
	}
}

func named(namespace string) string {
	if namespace == "" {
		return "the agent's own network namespace"
	}
	return "network namespace " + namespace
}

// read reads until the socket is closed or fails.
func (l *Listener) read() {
	defer close(l.ended)
	var err error
	for err == nil {
		err = l.sock.receive(l.message)
		if errors.Is(err, unix.ENOBUFS) {
			err = l.lost()
		}
	}
	if errors.Is(err, os.ErrClosed) {
		err = errors.New("it is not listened to any more")
	}
	l.change(func() error {
		l.err = fmt.Errorf("connection tracking of %s: %w", named(l.namespace), err)
		return nil
	})
}

// change changes the state and wakes who waits for that.
func (l *Listener) change(how func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := how()
	close(l.changed)
	l.changed = make(chan struct{})
	return err
}

func (l *Listener) message(m *syscall.NetlinkMessage) error {
	switch m.Header.Type {
	case unix.NLMSG_ERROR:
		return l.answered(m)
	case unix.NLMSG_DONE:
		return l.change(func() error { return l.dumped(m.Header.Seq) })
	case typeNew, typeDelete:
		c, err := decode(m.Data)
		switch {
		case err != nil:
			l.table.count(func(s *Stats) { s.Malformed++ })
		case m.Header.Type == typeNew:
			l.table.add(l.namespace, l.epoch, &c)
		default:
			l.table.remove(l.namespace, &c)
		}
	}
	return nil
}

// answered takes the answer to a request: of a mark, or of a dump that cannot be.
func (l *Listener) answered(m *syscall.NetlinkMessage) error {
	err := answer(m)
	return l.change(func() error {
		switch {
		case l.dump != 0 && m.Header.Seq == l.dump:
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("the kernel does not tell of it (module nf_conntrack_netlink): %w", err)
			}
			return fmt.Errorf("list it: %w", err)
		case err != nil:
			return fmt.Errorf("ask: %w", err)
		}
		if later(m.Header.Seq, l.reached) {
			l.reached = m.Header.Seq
		}
		return nil
	})
}

// lost begins to read everything anew.
func (l *Listener) lost() error {
	l.table.count(func(s *Stats) { s.Overruns++ })
	return l.change(func() error {
		if l.dump != 0 {
			l.again = true
			return nil
		}
		return l.startDump()
	})
}

// startDump asks for everything that is tracked. Its messages come between the events, in the order
// in which things were so: what an event before them told is undone by them at most to what was true
// then.
func (l *Listener) startDump() error {
	l.seq++
	l.epoch++
	l.dump, l.again = l.seq, false
	return l.sock.request(typeGet, unix.NLM_F_DUMP, l.dump)
}

// dumped ends a dump.
func (l *Listener) dumped(seq uint32) error {
	if seq != l.dump {
		return nil
	}
	if l.again {
		return l.startDump()
	}
	l.dump = 0
	l.table.retain(l.namespace, l.epoch)
	if later(l.asked, l.reached) { // it may be among what was lost
		return l.mark(l.asked)
	}
	return nil
}
