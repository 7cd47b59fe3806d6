package trace

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// These tests make the running kernel drop packets, and let real sockets talk.

func open(t testing.TB, o Options) *Trace {
	t.Helper()
	kerneltest.NeedRoot(t)
	tr, err := Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tr.Close()) })
	return tr
}

// inNamespace moves the test to a network namespace of its own, with a loopback interface, and
// returns its inode. The thread dies with the test.
func inNamespace(t testing.TB) uint64 {
	t.Helper()
	runtime.LockOSThread()
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	lo, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(lo))
	var st unix.Stat_t
	require.NoError(t, unix.Stat("/proc/thread-self/ns/net", &st))
	return st.Ino
}

// patience is how long a test waits for drops: a busy kernel hands packets on late.
const patience = 10 * time.Second

func TestVerifierEffort(t *testing.T) {
	kerneltest.NeedRoot(t)
	for _, name := range Features() {
		n, err := VerifierEffort(name)
		require.NoError(t, err)
		t.Logf("%s: %d instructions walked", name, n)
		require.Positive(t, n)
		require.Less(t, n, 10000, name)
	}
}

// dropped sums up by reason what was dropped of one tuple, when n packets are to come.
func dropped(t testing.TB, tr *Trace, want Tuple, n uint64) map[string]uint64 {
	t.Helper()
	sums := map[string]uint64{}
	add(t, tr, want, sums)
	for end := time.Now().Add(patience); total(sums) < n && time.Now().Before(end); {
		add(t, tr, want, sums)
	}
	add(t, tr, want, sums) // one that comes too often
	return sums
}

func total(sums map[string]uint64) (n uint64) {
	for _, packets := range sums {
		n += packets
	}
	return n
}

// add drains once.
func add(t testing.TB, tr *Trace, want Tuple, sums map[string]uint64) {
	t.Helper()
	all, err := tr.Drops(nil)
	require.NoError(t, err)
	for _, d := range all {
		if d.Tuple == want {
			require.Positive(t, d.First)
			require.GreaterOrEqual(t, d.Last, d.First)
			sums[d.Reason] += d.Packets
		}
	}
}

// reason is the name of a reason where the kernel tells them.
func reason(tr *Trace, name string) string {
	if !tr.drops.reasons.told {
		return noReason
	}
	return name
}

// udp sends n datagrams from one socket and returns its address. It does not mind what comes
// back.
func udp(t testing.TB, from, to string, n int) netip.AddrPort {
	t.Helper()
	local, remote := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	require.NoError(t, err)
	defer c.Close()
	for range n {
		_, err := c.WriteToUDPAddrPort([]byte("hello"), remote)
		require.NoError(t, err)
	}
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestDropsNoListener(t *testing.T) {
	tr := open(t, Options{Drops: true})
	inode := inNamespace(t)
	for _, test := range []struct{ from, to string }{
		{"127.0.0.1:41000", "127.0.0.2:9"}, {"[::1]:41000", "[::1]:9"},
	} {
		udp(t, test.from, test.to, 1000)
		want := Tuple{Src: netip.MustParseAddrPort(test.from), Dst: netip.MustParseAddrPort(test.to),
			Protocol: unix.IPPROTO_UDP, Namespace: inode}
		require.Equal(t, map[string]uint64{reason(tr, "no-socket"): 1000},
			dropped(t, tr, want, 1000), test.to)
		require.Empty(t, dropped(t, tr, want, 0), "told twice")
	}
	lost, err := tr.Lost()
	require.NoError(t, err)
	require.Zero(t, lost)
}

func TestDropsClosedPort(t *testing.T) {
	tr := open(t, Options{Drops: true})
	inode := inNamespace(t)
	from, to := netip.MustParseAddrPort("127.0.0.1:41001"), netip.MustParseAddrPort("127.0.0.1:9")
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	_, err := d.Dial("tcp", to.String())
	require.ErrorIs(t, err, unix.ECONNREFUSED)
	require.Equal(t, map[string]uint64{reason(tr, "no-socket"): 1},
		dropped(t, tr, Tuple{Src: from, Dst: to, Protocol: unix.IPPROTO_TCP, Namespace: inode}, 1))
}

// TestDropsByProgram lets a program at the loopback's ingress drop everything.
func TestDropsByProgram(t *testing.T) {
	tr := open(t, Options{Drops: true})
	inode := inNamespace(t)
	shoot(t)
	from, to := "127.0.0.1:41002", "127.0.0.1:9"
	udp(t, from, to, 10)
	require.Equal(t, map[string]uint64{reason(tr, "tc-ingress"): 10},
		dropped(t, tr, Tuple{Src: netip.MustParseAddrPort(from), Dst: netip.MustParseAddrPort(to),
			Protocol: unix.IPPROTO_UDP, Namespace: inode}, 10))
}

func shoot(t testing.TB) {
	t.Helper()
	const actShot = 2 // TC_ACT_SHOT
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "BSD",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, actShot), asm.Return()}})
	require.NoError(t, err)
	defer p.Close()
	lo, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	require.NoError(t, netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0),
		Parent: netlink.HANDLE_CLSACT}}))
	require.NoError(t, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: lo.Attrs().Index,
			Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Handle: 1, Priority: 1},
		Fd: p.FD(), Name: "shoot", DirectAction: true}))
}

// TestDropsFull fills the table: what has no room is counted.
func TestDropsFull(t *testing.T) {
	const room, tuples, each = 4, 40, 5
	tr := open(t, Options{Drops: true, Max: room})
	inNamespace(t)
	for i := range tuples {
		udp(t, fmt.Sprintf("127.0.0.1:%d", 42000+i), "127.0.0.1:9", each)
	}
	all, err := tr.Drops(nil)
	require.NoError(t, err)
	require.Len(t, all, room)
	lost, err := tr.Lost()
	require.NoError(t, err)
	told := lost.Drops
	for _, d := range all {
		told += d.Packets
	}
	// Others on this machine may drop as well.
	require.GreaterOrEqual(t, told, uint64(tuples*each))
}

// TestDropsWhileDraining drains as fast as it can while packets are dropped on another CPU: none
// may get lost between reading and deleting, and none may be told twice.
func TestDropsWhileDraining(t *testing.T) {
	tr := open(t, Options{Drops: true})
	inode := inNamespace(t)
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 41003})
	require.NoError(t, err)
	defer c.Close()
	to := netip.MustParseAddrPort("127.0.0.1:9")
	sent := make(chan uint64)
	go func() {
		var n uint64
		for end := time.Now().Add(time.Second); time.Now().Before(end); n++ {
			if _, err := c.WriteToUDPAddrPort([]byte("hello"), to); err != nil {
				break // the number does not fit then
			}
		}
		sent <- n
	}()
	tuple := Tuple{Src: netip.MustParseAddrPort("127.0.0.1:41003"), Dst: to,
		Protocol: unix.IPPROTO_UDP, Namespace: inode}
	sums := map[string]uint64{}
	for drains := 1; ; drains++ {
		add(t, tr, tuple, sums)
		select {
		case want := <-sent:
			t.Logf("%d packets in %d drains", want, drains)
			sums[reason(tr, "no-socket")] += dropped(t, tr, tuple,
				want-total(sums))[reason(tr, "no-socket")]
			require.Positive(t, want)
			require.Equal(t, map[string]uint64{reason(tr, "no-socket"): want}, sums)
			return
		default:
		}
	}
}

func TestRTT(t *testing.T) {
	tr := open(t, Options{RTT: true})
	inode := inNamespace(t)
	for _, test := range []struct {
		name, network, address string
		dial                   string
	}{
		{"IPv4", "tcp4", "127.0.0.1:8080", "127.0.0.1:8080"},
		{"IPv6", "tcp6", "[::1]:8080", "[::1]:8080"},
		{"IPv4 to a socket of both", "tcp", "[::]:8081", "127.0.0.1:8081"},
	} {
		client, server := talk(t, test.network, test.address, test.dial)
		all, err := tr.RTT(nil)
		require.NoError(t, err)
		ends := map[Tuple]RTT{}
		for _, r := range all {
			ends[r.Tuple] = r
		}
		for _, tuple := range []Tuple{
			{client, server, unix.IPPROTO_TCP, inode}, {server, client, unix.IPPROTO_TCP, inode},
		} {
			r, ok := ends[tuple]
			require.True(t, ok, "%s: nothing of %v in %v", test.name, tuple, all)
			require.Positive(t, r.Samples)
			require.Positive(t, r.Min)
			require.LessOrEqual(t, r.Min, r.Last)
			require.LessOrEqual(t, r.Last, r.Max)
			require.Less(t, r.Max, uint32(time.Second/time.Microsecond))
		}
	}
}

// talk opens a connection, sends some lines there and back, and closes it.
func talk(t testing.TB, network, listen, dial string) (client, server netip.AddrPort) {
	t.Helper()
	l, err := net.Listen(network, listen)
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", dial)
	require.NoError(t, err)
	defer c.Close()
	s, err := l.Accept()
	require.NoError(t, err)
	go func() {
		defer s.Close()
		_, _ = io.Copy(s, s) // ends with the client
	}()
	line := make([]byte, 6)
	for range 10 {
		_, err := c.Write([]byte("hello\n"))
		require.NoError(t, err)
		_, err = io.ReadFull(c, line)
		require.NoError(t, err)
	}
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), netip.MustParseAddrPort(dial)
}

func TestRTTFull(t *testing.T) {
	tr := open(t, Options{RTT: true, Max: 1})
	inNamespace(t)
	talk(t, "tcp", "127.0.0.1:8082", "127.0.0.1:8082")
	all, err := tr.RTT(nil)
	require.NoError(t, err)
	require.Len(t, all, 1)
	lost, err := tr.Lost()
	require.NoError(t, err)
	require.Positive(t, lost.RTT)
}

func TestProbe(t *testing.T) {
	kerneltest.NeedRoot(t)
	for _, name := range Features() {
		_, err := Probe(name)
		require.NoError(t, err, name)
	}
}

func TestOffIsNothing(t *testing.T) {
	tr := open(t, Options{})
	drops, err := tr.Drops(nil)
	require.NoError(t, err)
	rtts, err := tr.RTT(nil)
	require.NoError(t, err)
	lost, err := tr.Lost()
	require.NoError(t, err)
	require.Empty(t, drops)
	require.Empty(t, rtts)
	require.Zero(t, lost)
}

func TestExplain(t *testing.T) {
	require.ErrorContains(t, explain(fmt.Errorf("x: %w", unix.EPERM)), "needs root")
	plain := errors.New("x")
	require.Equal(t, plain, explain(plain))
}
