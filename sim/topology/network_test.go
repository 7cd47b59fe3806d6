package topology

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/sim/spec"
)

func parse(t testing.TB, topology string) *spec.Scenario {
	t.Helper()
	text := "summary: test\ntopology:\n" + topology + "\ntraffic: [advance: 1s]\n"
	sc, err := spec.Parse("test.yaml", []byte(text))
	require.NoError(t, err)
	return sc
}

func build(t testing.TB, topology string) (*spec.Scenario, *Network) {
	t.Helper()
	kerneltest.NeedRoot(t)
	sc := parse(t, topology)
	n, err := Build(sc, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return sc, n
}

const pair = `
  client: {eth0: [10.0.0.1/24, fd00::1/64], stack: kernel}
  server: {eth0: [10.0.0.2/24, fd00::2/64], stack: kernel}
  links: [client/eth0 - server/eth0]
agent: {on: [server/eth0]}`

const silentPair = `
  client: {eth0: [10.0.0.1/24, fd00::1/64]}
  server: {eth0: [10.0.0.2/24, fd00::2/64]}
  links: [client/eth0 - server/eth0]
agent: {on: [server/eth0]}`

const routed = `
  client: {eth0: [10.0.0.1/24, fd00:0:0:1::1/64], stack: kernel}
  router:
    forward: true
    eth0: [10.0.0.254/24, fd00:0:0:1::fe/64]
    eth1: {addresses: [10.1.0.254/24, fd00:0:0:2::fe/64], mtu: 1400}
  switch: {br0: {bridge: [eth0, eth1, eth2]}}
  server: {eth0: {addresses: [10.1.0.2/24, fd00:0:0:2::2/64], mtu: 1400}, stack: kernel}
  other: {eth0: {addresses: [10.1.0.3/24, fd00:0:0:2::3/64], mtu: 1400, mac: "02:00:00:00:77:77"}}
  links:
    - client/eth0 - router/eth0
    - router/eth1 - switch/eth0
    - server/eth0 - switch/eth1
    - other/eth0 - switch/eth2
agent: {on: [server/eth0]}`

// exchange sends bytes from one host to another over TCP, and the same back.
func exchange(t *testing.T, n *Network, from, to string, server netip.Addr) {
	t.Helper()
	talk(t, n, ends{from, to}, server, server)
}

// ends are the hosts of a connection.
type ends struct{ from, to string }

// talk is exchange with a server that is called by another address than its own.
func talk(t *testing.T, n *Network, hosts ends, called, server netip.Addr) {
	t.Helper()
	var l net.Listener
	require.NoError(t, n.Do(hosts.to, func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(server, 8080)))
		return err
	}))
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	// Dial starts goroutines of its own when it has a deadline, so the kernel gets one instead.
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SYNCNT, 2)
		})
	}}
	var c net.Conn
	require.NoError(t, n.Do(hosts.from, func() (err error) {
		c, err = d.Dial("tcp", netip.AddrPortFrom(called, 8080).String())
		return err
	}))
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	sent := strings.Repeat("x", 100_000)
	go func() {
		io.WriteString(c, sent)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, got, len(sent))
}

func TestSocketsBothFamilies(t *testing.T) {
	_, n := build(t, pair)
	exchange(t, n, "client", "server", netip.MustParseAddr("10.0.0.2"))
	exchange(t, n, "client", "server", netip.MustParseAddr("fd00::2"))
}

func TestRoutedAndBridged(t *testing.T) {
	_, n := build(t, routed)
	exchange(t, n, "client", "server", netip.MustParseAddr("10.1.0.2"))
	exchange(t, n, "client", "server", netip.MustParseAddr("fd00:0:0:2::2"))
}

// TestInterfaces checks that the kernel has what the scenario says.
func TestInterfaces(t *testing.T) {
	sc, n := build(t, routed)
	for _, h := range sc.Topology.Hosts {
		handle, err := n.Handle(h.Name)
		require.NoError(t, err)
		again, err := n.Handle(h.Name)
		require.NoError(t, err)
		require.Same(t, handle, again)
		links, err := handle.LinkList()
		require.NoError(t, err)
		require.Len(t, links, len(h.Interfaces)+1, "and lo")
		for _, want := range h.Interfaces {
			got, err := handle.LinkByIndex(want.Index)
			require.NoError(t, err)
			a := got.Attrs()
			require.Equal(t, want.Name, a.Name)
			require.Equal(t, want.MTU, a.MTU)
			require.Equal(t, net.HardwareAddr(want.MAC[:]), a.HardwareAddr)
			require.Equal(t, "up", a.OperState.String())
			require.Zero(t, a.Flags&net.FlagMulticast)
		}
		require.FileExists(t, n.Path(h.Name))
		require.True(t, strings.HasPrefix(n.Path(h.Name), DefaultNetnsDir+"/weir-"))
	}
}

// listen opens a socket that sees every frame on every interface of a host, in and out.
func listen(t *testing.T, n *Network, host string) int {
	t.Helper()
	fd := -1
	require.NoError(t, n.Do(host, func() (err error) {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, int(all))
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// frames reads what a socket of listen has seen.
func frames(t *testing.T, fd int) []string {
	t.Helper()
	var out []string
	buf := make([]byte, 2048)
	for {
		size, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return out
		}
		require.NoError(t, err)
		out = append(out, fmt.Sprintf("interface %d: %x", from.(*unix.SockaddrLinklayer).Ifindex,
			buf[:size]))
	}
}

// TestSilence checks that the kernel puts no packet on any link of its own accord: no neighbour
// discovery, no router solicitation, no multicast report. The sockets are opened by the stage
// before the interfaces come up.
func TestSilence(t *testing.T) {
	for name, topology := range map[string]string{
		"pair": pair, "silent pair": silentPair, "routed": routed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kerneltest.NeedRoot(t)
			sc := parse(t, topology)
			sockets := map[string]int{}
			n, err := buildWatched(sc, Options{}, func(n *Network) {
				for _, h := range sc.Topology.Hosts {
					sockets[h.Name] = listen(t, n, h.Name)
				}
			})
			require.NoError(t, err)
			defer func() { require.NoError(t, n.Close()) }()
			// Reports and solicitations come within a second; repeats within some more.
			time.Sleep(3 * time.Second)
			for host, fd := range sockets {
				require.Empty(t, frames(t, fd), "host %s", host)
			}
		})
	}
}

// TestSilentHost checks that a host without a stack answers nothing.
func TestSilentHost(t *testing.T) {
	sc, n := build(t, silentPair)
	client, server := sc.Topology.Host("client"), sc.Topology.Host("server")
	fd := listen(t, n, "client")
	for _, payload := range [][]byte{synTo("10.0.0.2"), arpFor("10.0.0.2")} {
		frame := append(append(server.Interfaces[0].MAC[:], client.Interfaces[0].MAC[:]...), payload...)
		to := &unix.SockaddrLinklayer{Ifindex: client.Interfaces[0].Index, Halen: 6}
		require.NoError(t, unix.Sendto(fd, frame, 0, to))
	}
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, frames(t, fd), "a packet socket does not see what it sends itself")
}

// synTo is an IPv4 packet with a TCP SYN, from the EtherType on. Checksums are right, or the
// kernel would have a reason not to answer.
func synTo(dst string) []byte {
	to := netip.MustParseAddr(dst).As4()
	ip := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, to[0], to[1], to[2], to[3]}
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	tcp := []byte{0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0}
	pseudo := append(append([]byte{}, ip[12:20]...), 0, 6, 0, 20)
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	return append(append([]byte{0x08, 0}, ip...), tcp...)
}

func arpFor(dst string) []byte {
	to := netip.MustParseAddr(dst).As4()
	return append([]byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 1, 10, 0, 0, 1,
		0, 0, 0, 0, 0, 0}, to[:]...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^uint16(sum + sum>>16)
}

// TestUnreachable checks that a router answers for addresses of nobody, at once and without
// asking for them on the wire.
func TestUnreachable(t *testing.T) {
	_, n := build(t, routed)
	for _, to := range []string{"10.1.0.99", "fd00:0:0:2::99"} {
		err := n.Do("client", func() error {
			c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(
				netip.AddrPortFrom(netip.MustParseAddr(to), 80)))
			if err == nil {
				c.Close()
			}
			return err
		})
		require.Truef(t, errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH),
			"%s: %v", to, err)
	}
}

// TestVLAN sends over VLAN interfaces, one of them below a bridge. A kernel without them must
// say so in the error's type.
func TestVLAN(t *testing.T) {
	kerneltest.NeedRoot(t)
	n, err := Build(parse(t, `
  client: {stack: kernel, eth0: [], eth0.7: [10.7.0.1/24, fd00:7::1/64]}
  switch: {br0: {bridge: [eth0, eth1]}}
  server:
    stack: kernel
    br0: {bridge: [eth0.7], addresses: [10.7.0.2/24, fd00:7::2/64]}
    eth0: []
    eth0.7: []
  links: [client/eth0 - switch/eth0, server/eth0 - switch/eth1]
agent: {on: [server/eth0]}`), Options{})
	var u *Unsupported
	if errors.As(err, &u) {
		require.Equal(t, "vlan", u.Feature)
		left, err := filepath.Glob(fmt.Sprintf("%s/weir-%d-*", DefaultNetnsDir, os.Getpid()))
		require.NoError(t, err)
		require.Empty(t, left, "what was built before the error")
		t.Skip(u)
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	exchange(t, n, "client", "server", netip.MustParseAddr("10.7.0.2"))
	exchange(t, n, "client", "server", netip.MustParseAddr("fd00:7::2"))
}

func TestDo(t *testing.T) {
	_, n := build(t, silentPair)
	require.ErrorIs(t, n.Do("client", func() error { return io.EOF }), io.EOF)
	require.PanicsWithValue(t, "inside", func() { n.Do("client", func() error { panic("inside") }) })
	require.Panics(t, func() { n.Path("nobody") })
	inside := func(host string) (id string) {
		require.NoError(t, n.Do(host, func() (err error) {
			id, err = os.Readlink("/proc/thread-self/ns/net")
			return err
		}))
		return id
	}
	home, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(t, err)
	require.NotEqual(t, inside("client"), inside("server"))
	for range 20 { // whatever thread we are on, it is at home
		now, err := os.Readlink("/proc/thread-self/ns/net")
		require.NoError(t, err)
		require.Equal(t, home, now)
		require.NotEqual(t, home, inside("client"))
	}
}

// TestChange takes links down and up again under real traffic, and deletes one.
func TestChange(t *testing.T) {
	_, n := build(t, routed)
	for _, port := range []spec.Port{{Host: "client", Interface: "eth0"},
		{Host: "router", Interface: "eth1"}, {Host: "switch", Interface: "eth1"}} {
		require.NoError(t, n.Change(spec.LinkChange{Port: port, Action: "down"}))
		require.NoError(t, n.Change(spec.LinkChange{Port: port, Action: "up"}))
		exchange(t, n, "client", "server", netip.MustParseAddr("10.1.0.2"))
		exchange(t, n, "client", "server", netip.MustParseAddr("fd00:0:0:2::2"))
	}
	gone := spec.LinkChange{Port: spec.Port{Host: "client", Interface: "eth0"}, Action: "delete"}
	require.NoError(t, n.Change(gone))
	require.ErrorIs(t, n.Change(gone), unix.ENODEV)
}

func TestCloseTwice(t *testing.T) {
	kerneltest.NeedRoot(t)
	n, err := Build(parse(t, silentPair), Options{})
	require.NoError(t, err)
	path := n.Path("client")
	require.NoError(t, n.Close())
	require.NoFileExists(t, path)
	require.NoError(t, n.Close())
}

func BenchmarkBuild(b *testing.B) {
	kerneltest.NeedRoot(b)
	for name, topology := range map[string]string{
		"silent-pair": silentPair, "pair": pair, "routed": routed} {
		sc := parse(b, topology)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				n, err := Build(sc, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if err := n.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestOffloads checks that nothing is left to a card that is not there.
func TestOffloads(t *testing.T) {
	_, n := build(t, pair)
	h := n.host("client")
	names, err := h.featureNames("eth0")
	require.NoError(t, err)
	require.Contains(t, names, "tx-tcp-segmentation")
	blocks := (len(names) + 31) / 32
	buf := make([]uint32, 2+4*blocks) // struct ethtool_gfeatures: available, requested, active, ...
	buf[0], buf[1] = unix.ETHTOOL_GFEATURES, uint32(blocks)
	require.NoError(t, h.ethtool("eth0", unsafe.Pointer(&buf[0])))
	for bit, name := range names {
		active := buf[2+4*(bit/32)+2]&(1<<(bit%32)) != 0
		require.False(t, active && unwanted(name), "feature %s is on", name)
	}
}
