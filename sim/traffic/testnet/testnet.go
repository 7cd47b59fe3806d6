// Package testnet builds the topology of a scenario out of namespaces that have no names and
// vanish with their threads. It is for tests of packages that must not depend on sim/topology.
package testnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/spec"
)

// Net is a topology that stands. It is torn down with the test.
type Net struct {
	hosts map[string]*host
}

// host is a thread in a namespace.
type host struct {
	work  chan func()
	links *netlink.Handle
	ns    int
}

// Build makes namespaces, links, bridges and, on hosts with a stack, addresses, routes and
// neighbours. It skips the test without the privilege to.
func Build(t *testing.T, topology *spec.Topology) *Net {
	t.Helper()
	kerneltest.NeedRoot(t)
	n := &Net{hosts: map[string]*host{}}
	for _, h := range topology.Hosts {
		n.hosts[h.Name] = start(t)
	}
	for _, l := range topology.Links {
		n.link(t, topology, l)
	}
	for _, b := range topology.Bridges {
		n.bridge(t, b)
	}
	for _, h := range topology.Hosts {
		n.up(t, h)
	}
	for _, h := range topology.Hosts {
		n.ready(t, h)
	}
	for _, h := range topology.Hosts {
		if h.Stack || h.Forward {
			n.stack(t, topology, h)
		}
	}
	return n
}

// Do runs f in the host's namespace.
func (n *Net) Do(name string, f func() error) (err error) {
	h := n.hosts[name]
	if h == nil {
		return fmt.Errorf("no host %q", name)
	}
	done := make(chan struct{})
	h.work <- func() {
		err = f()
		close(done)
	}
	<-done
	return err
}

// Wire tells that no packets go through the engine here.
func (n *Net) Wire(spec.Port) (fd int, ok bool) { return -1, false }

func start(t *testing.T) *host {
	h := &host{work: make(chan func()), ns: -1}
	ready := make(chan error)
	var run func(ready chan error)
	run = func(ready chan error) {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			inner := make(chan error)
			go run(inner)
			err := <-inner
			runtime.UnlockOSThread()
			ready <- err
			return
		}
		ready <- h.prepare()
		for f := range h.work {
			f()
		}
	}
	go run(ready)
	require.NoError(t, <-ready)
	t.Cleanup(func() {
		close(h.work)
		h.links.Close()
		_ = unix.Close(h.ns)
	})
	return h
}

func (h *host) prepare() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	// Link-local addresses would be announced and spoil the counts.
	for _, s := range []string{"all", "default"} {
		set := "/proc/sys/net/ipv6/conf/" + s + "/addr_gen_mode"
		if err := os.WriteFile(set, []byte("1"), 0); err != nil && s == "default" {
			return err
		}
	}
	h.ns, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()),
		unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h.links, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	return err
}

func find(topology *spec.Topology, p spec.Port) *spec.Interface {
	for _, h := range topology.Hosts {
		for i := range h.Interfaces {
			if h.Name == p.Host && h.Interfaces[i].Name == p.Interface {
				return &h.Interfaces[i]
			}
		}
	}
	return nil
}

func (n *Net) link(t *testing.T, topology *spec.Topology, l spec.Link) {
	a, b := find(topology, l.A), find(topology, l.B)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.Name, max(a.MTU, 1500), a.MAC[:]
	require.NoError(t, n.hosts[l.A.Host].links.LinkAdd(&netlink.Veth{LinkAttrs: attrs,
		PeerName: b.Name, PeerHardwareAddr: net.HardwareAddr(b.MAC[:]),
		PeerNamespace: netlink.NsFd(n.hosts[l.B.Host].ns)}), "link %s - %s", l.A, l.B)
}

func (n *Net) bridge(t *testing.T, b spec.Bridge) {
	h := n.hosts[b.Host].links
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = b.Name, b.MAC[:]
	snooping := false
	require.NoError(t, h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}))
	br, err := h.LinkByName(b.Name)
	require.NoError(t, err)
	require.NoError(t, h.LinkSetUp(br))
	for _, p := range b.Ports {
		port, err := h.LinkByName(p)
		require.NoError(t, err)
		require.NoError(t, h.LinkSetMaster(port, br))
	}
}

func (n *Net) up(t *testing.T, sh spec.Host) {
	h := n.hosts[sh.Name].links
	names := []string{"lo"}
	for _, i := range sh.Interfaces {
		names = append(names, i.Name)
	}
	for _, name := range names {
		l, err := h.LinkByName(name)
		require.NoError(t, err, "%s/%s", sh.Name, name)
		if name != "lo" {
			n.quiet(t, h, l)
		}
		require.NoError(t, h.LinkSetUp(l))
	}
}

// quiet keeps the kernel from sending on its own, and packets from being larger than the MTU:
// without ARP no solicited-node groups are joined, without multicast no routers' groups, so
// there is nothing to report; with segments of one, TCP leaves nothing to the device.
func (n *Net) quiet(t *testing.T, h *netlink.Handle, l netlink.Link) {
	require.NoError(t, h.LinkSetARPOff(l))
	require.NoError(t, h.LinkSetMulticastOff(l))
	require.NoError(t, h.LinkSetGSOMaxSegs(l, 1))
}

// stack configures a host whose kernel takes part.
func (n *Net) stack(t *testing.T, topology *spec.Topology, sh spec.Host) {
	if sh.Forward {
		require.NoError(t, n.Do(sh.Name, func() error {
			for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
				if err := os.WriteFile("/proc/sys/net/"+s, []byte("1"), 0); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	h := n.hosts[sh.Name].links
	for _, i := range sh.Interfaces {
		l, err := h.LinkByName(i.Name)
		require.NoError(t, err)
		for _, a := range i.Addresses {
			require.NoError(t, h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD}))
		}
		// The topologies of these tests are small: everybody is on every link's table.
		n.neighbours(t, topology, sh, l)
	}
	for _, r := range sh.Routes {
		require.NoError(t, h.RouteAdd(&netlink.Route{Dst: ipNet(r.To.Masked()),
			Gw: r.Via.AsSlice()}), "route of %s", sh.Name)
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (n *Net) neighbours(t *testing.T, topology *spec.Topology, self spec.Host, l netlink.Link) {
	for _, other := range topology.Hosts {
		if other.Name == self.Name {
			continue
		}
		for _, i := range other.Interfaces {
			for _, a := range i.Addresses {
				require.NoError(t, n.hosts[self.Name].links.NeighSet(&netlink.Neigh{
					LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
					IP: a.Addr().AsSlice(), HardwareAddr: i.MAC[:]}))
			}
		}
	}
}

// ready waits until the kernel's link watch has activated the interfaces.
func (n *Net) ready(t *testing.T, sh spec.Host) {
	for _, i := range sh.Interfaces {
		require.Eventually(t, func() bool {
			l, err := n.hosts[sh.Name].links.LinkByName(i.Name)
			return err == nil && l.Attrs().OperState == netlink.OperUp
		}, 5*time.Second, time.Millisecond, "%s/%s does not come up", sh.Name, i.Name)
	}
}
