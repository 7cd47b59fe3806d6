package topology

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/oracle"
	"github.com/weirnet/weir/sim/spec"
)

// Where namespaces and owner files are by default: iproute2's place, so that `ip netns` shows
// them, and weir's own.
const (
	DefaultNetnsDir = "/run/netns"
	DefaultRunDir   = "/run/weir"
)

// readyTimeout is how long the interfaces may take to become usable. It is milliseconds on
// an idle machine; the rest is for emulated ones under load.
const readyTimeout = 20 * time.Second

// Options say where a network is built. The zero value is good.
type Options struct {
	NetnsDir string // DefaultNetnsDir when empty
	RunDir   string // DefaultRunDir when empty
}

func (o Options) withDefaults() Options {
	if o.NetnsDir == "" {
		o.NetnsDir = DefaultNetnsDir
	}
	if o.RunDir == "" {
		o.RunDir = DefaultRunDir
	}
	return o
}

// Unsupported is the error for a topology that this kernel cannot build.
type Unsupported struct {
	Feature string // what is missing: "vlan", "bridge", "ipv6", "nat"
	Err     error
}

// Error says which feature is missing.
func (u *Unsupported) Error() string {
	return fmt.Sprintf("this kernel has no %s: %v", u.Feature, u.Err)
}

// Unwrap returns what the kernel said.
func (u *Unsupported) Unwrap() error { return u.Err }

// Network is a scenario's network that stands. Its methods are safe for concurrent use, Close
// apart.
type Network struct {
	topology *spec.Topology
	owner    *owner
	home     netns.NsHandle // the namespace of this process
	hosts    map[string]*host
	order    []*host
	features []string // the kernel's names of device features
}

// host is one namespace.
type host struct {
	spec   *spec.Host
	name   string // of the namespace
	path   string
	ns     netns.NsHandle
	conn   *conn
	ioctl  int      // a socket inside, for ethtool
	router *os.File // the switch for IPv6 forwarding; nil when the host is no IPv6 router
	// portless are bridges without ports, which never come up.
	portless map[string]bool
	wires    map[string]int // files of interfaces whose packets go through this process

	mu     sync.Mutex
	handle *netlink.Handle // made when asked for
}

// Build builds the scenario's topology. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN. A kernel that
// lacks a kind of link gives an *Unsupported. What was built before an error is removed.
func Build(sc *spec.Scenario, opts Options) (*Network, error) {
	return buildWatched(sc, opts, func(*Network) {})
}

// buildWatched calls a function when there are namespaces and no interfaces yet.
func buildWatched(sc *spec.Scenario, opts Options, bare func(*Network)) (*Network, error) {
	n := &Network{topology: &sc.Topology, hosts: map[string]*host{}, home: netns.None()}
	err := n.prepare(opts.withDefaults())
	watch := func() error { bare(n); return nil }
	for _, stage := range []func() error{n.namespaces, watch, n.links, n.stack,
		n.configure, n.ready} {
		if err == nil {
			err = stage()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("build topology: %w", errors.Join(err, n.Close()))
	}
	return n, nil
}

// prepare fills in the hosts and claims their namespaces' names.
func (n *Network) prepare(opts Options) (err error) {
	if n.home, err = netns.Get(); err != nil {
		return fmt.Errorf("open own network namespace: %w", err)
	}
	var names []string
	for i := range n.topology.Hosts {
		names = append(names, n.topology.Hosts[i].Name)
	}
	if n.owner, err = newOwner(opts, names); err != nil {
		return err
	}
	for i := range n.topology.Hosts {
		s := &n.topology.Hosts[i]
		name := n.owner.namespace(s.Name)
		h := &host{spec: s, name: name, path: opts.NetnsDir + "/" + name, ns: netns.None(),
			ioctl: -1, portless: map[string]bool{}, wires: map[string]int{}}
		n.hosts[s.Name] = h
		n.order = append(n.order, h)
	}
	for _, b := range n.topology.Bridges {
		n.host(b.Host).portless[b.Name] = len(b.Ports) == 0
	}
	return nil
}

// namespaces makes all namespaces, side by side: the kernel takes milliseconds for each.
func (n *Network) namespaces() error {
	var g errgroup.Group
	g.SetLimit(4)
	for _, h := range n.order {
		g.Go(func() error {
			if err := h.create(n.home); err != nil {
				return fmt.Errorf("make namespace %s: %w", h.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// configure gives addresses, and takes everything up.
func (n *Network) configure() error {
	for _, h := range n.order {
		if err := n.offloadsOff(h); err != nil {
			return fmt.Errorf("host %s: switch offloads off: %w", h.spec.Name, err)
		}
		h.queueUp()
		h.queueAddresses()
		if err := h.conn.flush(); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
		if err := h.forward6(); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
		if err := n.settings(h); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
		if err := h.translate(); err != nil {
			return fmt.Errorf("host %s: %w", h.spec.Name, err)
		}
		if h.spec.Tracked {
			if err := n.Do(h.spec.Name, oracle.Enable); err != nil {
				return fmt.Errorf("host %s: %w", h.spec.Name, err)
			}
		}
	}
	return nil
}

// Path is where the host's namespace is in the file system.
func (n *Network) Path(host string) string { return n.host(host).path }

// NS is the host's network namespace. It belongs to the Network: do not close it.
func (n *Network) NS(host string) netns.NsHandle { return n.host(host).ns }

// Handle is a netlink handle (NETLINK_ROUTE) inside the host. It is the same one every time and
// belongs to the Network: do not close it.
func (n *Network) Handle(host string) (*netlink.Handle, error) {
	h := n.host(host)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle == nil {
		// Other families need modules that a small guest does not have.
		handle, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("open netlink in %s: %w", host, err)
		}
		h.handle = handle
	}
	return h.handle, nil
}

// host panics on a name that is not in the topology: the parser has checked the scenario's.
func (n *Network) host(name string) *host {
	h, ok := n.hosts[name]
	if !ok {
		panic(fmt.Sprintf("topology has no host %q", name))
	}
	return h
}

// Close removes the network. It is safe to call more than once.
func (n *Network) Close() error {
	var errs []error
	for _, h := range n.order {
		h.release()
		errs = append(errs, removeNamespace(h.path))
	}
	if n.owner != nil {
		errs = append(errs, n.owner.release())
	}
	n.letGo()
	return errors.Join(errs...)
}

// Leave lets go of the network but leaves it standing, for a look at it. The first Sweep after
// the end of this process removes it.
func (n *Network) Leave() {
	for _, h := range n.order {
		h.release()
	}
	n.letGo()
}

func (n *Network) letGo() {
	if n.home.IsOpen() {
		n.home.Close()
	}
	n.owner, n.order = nil, nil
}

// release closes what holds the namespace open.
func (h *host) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handle != nil {
		h.handle.Close()
		h.handle = nil
	}
	if h.conn != nil {
		h.conn.close()
		h.conn = nil
	}
	for name, fd := range h.wires {
		unix.Close(fd)
		delete(h.wires, name)
	}
	if h.ioctl >= 0 {
		unix.Close(h.ioctl)
		h.ioctl = -1
	}
	if h.router != nil {
		h.router.Close()
		h.router = nil
	}
	if h.ns.IsOpen() {
		h.ns.Close()
	}
}
