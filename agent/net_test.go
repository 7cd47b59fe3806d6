package agent

import (
	"flag"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// What the tests with the real datapath stand on: two network namespaces with a veth pair between
// them that carries nothing but what the tests send.

// patience is how long a test waits for what must come; on a good day it takes milliseconds. With millions of
// connections it takes longer.
var patience = flag.Duration("patience", 10*time.Second, "how long a test waits for what must come")

// between two looks at what must come, whoever it comes from has the CPU: on a machine with one, a test that
// looked without a pause would take half of it from an agent that starts.
const between = time.Millisecond

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(*patience); !holds(); time.Sleep(between) {
		if time.Now().After(end) {
			require.FailNow(t, "waited in vain: "+what)
		}
	}
}

// pair is a veth pair: "near" in one namespace, "far" in another. Only the far end is watched.
type pair struct {
	near, far       string // the namespaces' paths
	nearIP, farIP   net.IP
	nearMAC, farMAC net.HardwareAddr
	link            int    // of several between the two namespaces; 0 is the first one
	group           uint32 // of interfaces, for the far end; 0 is everybody's
}

const (
	nearName, farName = "near0", "far0"
	farIndex          = 77
)

func (p *pair) nearLink() string { return linkName(nearName, p.link) }

func (p *pair) farLink() string { return linkName(farName, p.link) }

func linkName(first string, link int) string {
	if link == 0 {
		return first
	}
	return fmt.Sprintf("%s.%d", first, link)
}

func newPair(t testing.TB) *pair {
	t.Helper()
	kerneltest.NeedRoot(t)
	p := &pair{near: nstest.New(t), far: nstest.New(t),
		nearIP: net.IPv4(10, 0, 0, 1), farIP: net.IPv4(10, 0, 0, 2),
		nearMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, farMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	p.build(t)
	return p
}

// build makes the interfaces; a test that has deleted them builds them again.
func (p *pair) build(t testing.TB) {
	t.Helper()
	near, err := os.Open(p.near)
	require.NoError(t, err)
	defer near.Close()
	inside(t, p.far, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index, attrs.HardwareAddr, attrs.Group = p.farLink(), farIndex+p.link, p.farMAC, p.group
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: p.nearLink(),
			PeerHardwareAddr: p.nearMAC, PeerNamespace: netlink.NsFd(near.Fd())})
		if err != nil {
			return err
		}
		return setUp(p.farLink(), p.farIP, p.nearIP, p.nearMAC)
	})
	inside(t, p.near, func() error { return setUp(p.nearLink(), p.nearIP, p.farIP, p.farMAC) })
}

// setUp makes an interface carry IPv4 to its only neighbour and say nothing of its own accord.
func setUp(name string, ip, peer net.IP, mac net.HardwareAddr) error {
	quiet := fmt.Sprintf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name)
	if err := os.WriteFile(quiet, []byte("1"), 0); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	mask := net.CIDRMask(24, 32)
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: mask}}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: peer,
		HardwareAddr: mac, State: netlink.NUD_PERMANENT})
}

// inside runs a function in a namespace. It must not end the test: it is on another goroutine.
func inside(t testing.TB, namespace string, fn func() error) {
	t.Helper()
	require.NoError(t, ifaces.Do(namespace, fn))
}

// received is what the far end's driver has counted.
func (p *pair) received(t testing.TB) (all bpf.Count) {
	t.Helper()
	inside(t, p.far, func() error {
		l, err := netlink.LinkByName(p.farLink())
		if err == nil {
			all = bpf.Count{Packets: l.Attrs().Statistics.RxPackets, Bytes: l.Attrs().Statistics.RxBytes}
		}
		return err
	})
	return all
}

// receivedSince is what the far end's driver has counted since then.
func (p *pair) receivedSince(t testing.TB, before bpf.Count) bpf.Count {
	t.Helper()
	now := p.received(t)
	return bpf.Count{Packets: now.Packets - before.Packets, Bytes: now.Bytes - before.Bytes}
}

// socket opens a packet socket on the near end: frames go out as they are, whatever the ports.
func (p *pair) socket(t testing.TB) int {
	t.Helper()
	fd := -1
	inside(t, p.near, func() error {
		l, err := netlink.LinkByName(p.nearLink())
		if err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// send sends frames in order and waits until the far end has received them.
func (p *pair) send(t testing.TB, frames ...[]byte) {
	t.Helper()
	before := p.received(t)
	fd := p.socket(t)
	for _, f := range frames {
		require.NoError(t, transmit(fd, f))
	}
	eventually(t, "the frames to arrive", func() bool {
		return p.receivedSince(t, before).Packets >= uint64(len(frames))
	})
}

func transmit(fd int, frame []byte) error {
	for {
		_, err := unix.Write(fd, frame)
		if err != unix.EINTR && err != unix.ENOBUFS {
			return err
		}
	}
}
