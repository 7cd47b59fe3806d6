package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// EndToEndOptions say how observers of a whole interface are measured. The zero value is fine.
type EndToEndOptions struct {
	Rounds int           // of each observer; 0 means 5
	Time   time.Duration // that a round sends; 0 means a second
	Flows  int           // UDP flows in turn; 0 means 1000
	// Weir is the command line of weir; nil: this program.
	Weir []string
	// Progress is told what comes next; nil: nobody.
	Progress io.Writer
}

func (o *EndToEndOptions) fill() error {
	if o.Rounds == 0 {
		o.Rounds = 5
	}
	if o.Time == 0 {
		o.Time = time.Second
	}
	if o.Flows == 0 {
		o.Flows = 1000
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Weir != nil {
		return nil
	}
	self, err := os.Executable()
	o.Weir = []string{self}
	return err
}

// EndToEnd is what observers of an interface cost, and whether they tell of every packet.
type EndToEnd struct {
	Machine   Machine        `json:"machine"`
	Time      time.Time      `json:"time"` // when it was measured
	Rounds    int            `json:"rounds"`
	RoundNS   time.Duration  `json:"round_ns"`
	Flows     int            `json:"flows"`
	Observers []ObserverCost `json:"observers"` // the first is nobody
}

// ObserverCost is what one observer costs. Medians of all rounds.
type ObserverCost struct {
	Name    string `json:"name"`
	What    string `json:"what"`
	Missing string `json:"missing,omitempty"` // why nothing was measured
	// Rate is packets per second; Own and All are CPU ns per packet of the observer's process, and of that
	// and the sender, in whose time the kernel also delivers.
	Rate float64 `json:"rate"`
	Own  float64 `json:"own_ns"`
	All  float64 `json:"all_ns"`
	// Added is All less nobody's in the same round.
	Added float64 `json:"added_ns"`
	// Received is all packets that came to the interface, Told those that the observer has told of.
	Received uint64 `json:"received"`
	Told     uint64 `json:"told"`
}

// RunEndToEnd sends at the highest rate through a pair of interfaces, round by round without an observer and
// with each. It needs root, and a machine that does little else.
func RunEndToEnd(ctx context.Context, opts EndToEndOptions) (EndToEnd, error) {
	if os.Geteuid() != 0 {
		return EndToEnd{}, ErrRoot
	}
	if err := opts.fill(); err != nil {
		return EndToEnd{}, err
	}
	cpus, siblings, err := pickCPUs()
	if err != nil {
		return EndToEnd{}, err
	}
	sender, err := newWorker(cpus[0])
	if err != nil {
		return EndToEnd{}, err
	}
	defer stop([]*worker{sender})
	r := EndToEnd{Machine: thisMachine(cpus[:1], siblings), Time: time.Now().UTC().Truncate(time.Second),
		Rounds: opts.Rounds, RoundNS: opts.Time, Flows: opts.Flows}
	err = aside(func() error {
		w, err := newWire(opts.Flows)
		if err != nil {
			return err
		}
		defer w.close()
		r.Observers, err = w.compare(ctx, sender, &opts)
		return err
	})
	return r, err
}

// wire is a pair of interfaces in the namespace of the thread that has made it.
type wire struct {
	fd    int // sends at the near end
	flows int
	frame packet
}

const nearEnd, farEnd = "near0", "far0"

func newWire(flows int) (*wire, error) {
	// Of its own accord no interface is to say anything.
	quiet := "/proc/thread-self/root/proc/sys/net/ipv6/conf/default/disable_ipv6"
	if err := os.WriteFile(quiet, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("keep IPv6 off: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nearEnd
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: farEnd}); err != nil {
		return nil, fmt.Errorf("make a pair of interfaces: %w", err)
	}
	for _, name := range []string{nearEnd, farEnd} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return nil, fmt.Errorf("set %s up: %w", name, err)
		}
	}
	w := &wire{flows: flows, frame: udp4()}
	var err error
	w.fd, err = openSender(nearEnd)
	return w, err
}

// openSender opens a socket that sends frames as they are, past the queueing discipline.
func openSender(name string) (int, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index}))
	if err != nil {
		return -1, errors.Join(fmt.Errorf("send on %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}

// close leaves the interfaces to the namespace, with which they go.
func (w *wire) close() { _ = unix.Close(w.fd) }

// received is how many packets have come to the far end.
func (w *wire) received() (uint64, error) {
	l, err := netlink.LinkByName(farEnd)
	if err != nil {
		return 0, err
	}
	return l.Attrs().Statistics.RxPackets, nil
}

// blast sends for so long, and relaps the time it took and the CPU time of the sending thread. The kernel delivers
// within that.
func (w *wire) blast(over time.Duration) (took, cpu time.Duration, err error) {
	before, err := threadCPU()
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	for n := 0; time.Since(begin) < over; {
		for range 64 { // the clock is not asked for each packet
			binary.BigEndian.PutUint16(w.frame.frame[w.frame.port:], uint16(1024+n%w.flows))
			n++
			if err := w.send(); err != nil {
				return 0, 0, err
			}
		}
	}
	after, err := threadCPU()
	return time.Since(begin), after - before, err
}

func (w *wire) send() error {
	for {
		_, err := unix.Write(w.fd, w.frame.frame)
		if err != unix.EINTR && err != unix.ENOBUFS {
			return err
		}
	}
}

// threadCPU is the CPU time of this thread.
func threadCPU() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0, fmt.Errorf("ask for CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// lap is one round with one observer.
type lap struct{ rate, own, all float64 }

// compare takes turns with the observers.
func (w *wire) compare(ctx context.Context, sender *worker, opts *EndToEndOptions) ([]ObserverCost, error) {
	all := observers(opts.Weir)
	costs := make([]ObserverCost, len(all))
	laps := make([][]lap, len(all))
	for i, o := range all {
		costs[i] = ObserverCost{Name: o.name, What: o.what, Missing: o.missing()}
	}
	for round := range opts.Rounds {
		fmt.Fprintf(opts.Progress, "measuring round %d of %d\n", round+1, opts.Rounds)
		for i, o := range all {
			if costs[i].Missing != "" {
				continue
			}
			s, err := w.round(ctx, sender, o, opts.Time, &costs[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", o.name, err)
			}
			laps[i] = append(laps[i], s)
		}
	}
	for i := range costs {
		costs[i].sum(laps[i], laps[0])
	}
	return costs, nil
}

// sum fills in the medians.
func (c *ObserverCost) sum(own, nobody []lap) {
	if len(own) == 0 {
		return
	}
	var rates, owns, alls, empty []float64
	for i, s := range own {
		rates, owns, alls, empty = append(rates, s.rate), append(owns, s.own), append(alls, s.all), append(empty, nobody[i].all)
	}
	c.Rate, c.Own, c.All = median(rates), median(owns), median(alls)
	c.Added = netOf(alls, empty).Median
}

// round sends for a while past one observer.
func (w *wire) round(ctx context.Context, sender *worker, o *observer, over time.Duration, c *ObserverCost) (s lap, err error) {
	w.frame = udp4()
	p, err := o.begin(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, p.kill()) }()
	before, err := w.received()
	if err != nil {
		return s, err
	}
	start, err := p.cpu()
	if err != nil {
		return s, err
	}
	var took, sending time.Duration
	err = atOnce([]*worker{sender}, func(int) (err error) {
		took, sending, err = w.blast(over)
		return err
	})
	if err != nil {
		return s, err
	}
	after, err := w.received()
	if err != nil {
		return s, err
	}
	own, told, err := o.settle(ctx, p)
	if err != nil {
		return s, err
	}
	n := float64(after - before)
	c.Received, c.Told = c.Received+after-before, c.Told+told
	s.rate = n / took.Seconds()
	s.own = float64(own-start) / n
	s.all = s.own + float64(sending)/n
	return s, nil
}
