package nat

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

var record = flag.Bool("record", false, "write the kernel's messages to testdata")

// enterNamespace moves the test to a network namespace of its own; it skips where the kernel cannot
// tell of its connection tracking.
func enterNamespace(t *testing.T) {
	t.Helper()
	kerneltest.NeedRoot(t)
	runtime.LockOSThread() // never unlocked: the thread dies with the test
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	l, err := Listen("", NewTable(1))
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		t.Skipf("skipped: %v", err)
	}
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

func listen(t *testing.T, table *Table) *Listener {
	t.Helper()
	l, err := Listen("here", table)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// tracker puts connections into the kernel's tracking, and takes them out.
type tracker struct {
	t *testing.T
	s *socket
}

func newTracker(t *testing.T) tracker {
	t.Helper()
	s, err := open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	return tracker{t, s}
}

// IPCTNL_MSG_CT_NEW and _DELETE take the tuples as they come; the reply's says to what the connection
// is translated.
func (k tracker) create(s [2]Tuple)  { k.do(typeNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, s) }
func (k tracker) destroy(s [2]Tuple) { k.do(typeDelete, 0, s) }

func (k tracker) do(kind, flags uint16, s [2]Tuple) {
	k.t.Helper()
	reply := s[After].Reverse()
	switch reply.Protocol {
	case unix.IPPROTO_ICMP:
		reply.ICMPType = 0
	case unix.IPPROTO_ICMPV6:
		reply.ICMPType = 129
	}
	const ctaTimeout, ctaProtoInfo = 7, 4
	payload := []byte{unix.AF_INET, 0, 0, 0}
	if s[Before].Src.Is6() {
		payload[0] = unix.AF_INET6
	}
	payload = append(payload, attribute(ctaTupleOriginal|nested, encode(s[Before]))...)
	if kind == typeNew {
		payload = append(payload, attribute(ctaTupleReply|nested, encode(reply))...)
		payload = append(payload, attribute(ctaTimeout, []byte{0, 0, 0, 100})...)
		if reply.Protocol == unix.IPPROTO_TCP { // established
			payload = append(payload, attribute(ctaProtoInfo|nested, attribute(1|nested, attribute(1, []byte{3})))...)
		}
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(payload)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	b = append(append(b, 0, 0, 0, 0, 0, 0, 0, 0), payload...)
	_, err := k.s.f.Write(b)
	require.NoError(k.t, err)
	require.NoError(k.t, k.s.receive(answer))
}

// encode is the inverse of decodeTuple.
func encode(t Tuple) []byte {
	src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if t.Src.Is6() {
		src, dst = ctaIPv6Src, ctaIPv6Dst
	}
	be := func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
	parts := [][]byte{attribute(ctaProtoNumber, []byte{t.Protocol})}
	switch {
	case t.Protocol == unix.IPPROTO_ICMP:
		parts = append(parts, attribute(ctaICMPID, be(t.ICMPID)),
			attribute(ctaICMPType, []byte{t.ICMPType}), attribute(ctaICMPCode, []byte{0}))
	case t.Protocol == unix.IPPROTO_ICMPV6:
		parts = append(parts, attribute(ctaICMPv6ID, be(t.ICMPID)),
			attribute(ctaICMPv6Type, []byte{t.ICMPType}), attribute(ctaICMPv6Code, []byte{0}))
	default:
		parts = append(parts, attribute(ctaProtoSrcPort, be(t.SrcPort)),
			attribute(ctaProtoDstPort, be(t.DstPort)))
	}
	ip := attribute(ctaTupleIP|nested, attribute(src, t.Src.AsSlice()), attribute(dst, t.Dst.AsSlice()))
	return append(ip, attribute(ctaTupleProto|nested, parts...)...)
}

func requireTranslated(t *testing.T, table *Table, s [2]Tuple, want bool) {
	t.Helper()
	for side := range s {
		got, ok := table.Find("here", Side(side), s[side], 0)
		require.Equal(t, want, ok, "%v from side %d", s[side], side)
		if ok {
			require.Equal(t, s, got.Tuple)
		}
	}
}

var nobody = func(string, Tuple) bool { return false }

// TestListen lets the kernel track connections before and while they are listened to.
func TestListen(t *testing.T) {
	enterNamespace(t)
	kernel := newTracker(t)
	if *record {
		recordSamples(t, kernel)
	}
	table := NewTable(100)
	kernel.create(samples["tcp-snat"])
	l := listen(t, table)
	requireTranslated(t, table, samples["tcp-snat"], true)

	for name, s := range samples {
		if name != "tcp-snat" {
			kernel.create(s)
			require.NoError(t, l.Catch())
			requireTranslated(t, table, s, s[Before] != s[After])
		}
	}
	require.Equal(t, Stats{Translations: len(samples) - 1}, table.Stats())

	kernel.destroy(samples["icmp-snat"])
	require.NoError(t, l.Catch())
	requireTranslated(t, table, samples["icmp-snat"], true) // its last record may still come
	table.Sweep(nobody)
	requireTranslated(t, table, samples["icmp-snat"], true)
	table.Sweep(nobody)
	requireTranslated(t, table, samples["icmp-snat"], false)
	require.Equal(t, Stats{Translations: len(samples) - 2}, table.Stats())
}

// TestListenOverrun lets the kernel lose events: what they would have told is found out all the same.
func TestListenOverrun(t *testing.T) {
	enterNamespace(t)
	kernel := newTracker(t)
	table := NewTable(10_000)
	l := listen(t, table)
	stays := samples["tcp-dnat"]
	kernel.create(samples["udp-both"])
	kernel.create(stays)
	require.NoError(t, l.Catch())

	// The smallest buffer, and a reader that does not read while the table is held.
	raw, err := l.sock.f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1)
	}))
	table.mu.Lock()
	var all [][2]Tuple
	for port := range 200 {
		s := [2]Tuple{tuple(17, fmt.Sprintf("10.0.0.1:%d", 1000+port), "10.0.0.2:53"),
			tuple(17, fmt.Sprintf("10.0.0.9:%d", 1000+port), "10.0.0.2:53")}
		kernel.create(s)
		all = append(all, s)
	}
	kernel.destroy(samples["udp-both"])
	table.mu.Unlock()
	require.NoError(t, l.Catch())
	require.Positive(t, table.Stats().Overruns)
	table.Sweep(nobody)
	table.Sweep(nobody)
	for _, s := range append(all, stays) {
		requireTranslated(t, table, s, true)
	}
	requireTranslated(t, table, samples["udp-both"], false)
	require.Equal(t, len(all)+1, table.Stats().Translations)
}

func TestListenEnds(t *testing.T) {
	enterNamespace(t)
	l, err := Listen("here", NewTable(1))
	require.NoError(t, err)
	require.NoError(t, l.Catch())
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Catch(), os.ErrClosed)
}

// TestListenEventsOff: a kernel that tracks and sends no events is an error with its reason.
func TestListenEventsOff(t *testing.T) {
	enterNamespace(t)
	const file = "/proc/sys/net/netfilter/nf_conntrack_events"
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Skipf("skipped: %v", err)
	}
	_, err := Listen("here", NewTable(1))
	require.ErrorContains(t, err, "net.netfilter.nf_conntrack_events is 0")
}

// recordSamples writes what the kernel sends of each sample: the events of its begin and end, and the
// message of a dump in between.
func recordSamples(t *testing.T, kernel tracker) {
	s, err := open(groupNew, groupDestroy)
	require.NoError(t, err)
	defer s.close()
	require.NoError(t, s.within(10*time.Second))
	for name, sample := range samples {
		write := func(kind string) {
			wrote := false
			err := s.receive(func(m *syscall.NetlinkMessage) error {
				if m.Header.Type != typeNew && m.Header.Type != typeDelete {
					return nil
				}
				wrote = true
				return os.WriteFile(filepath.Join("testdata", name+"."+kind+".hex"),
					[]byte(hex.EncodeToString(m.Data)+"\n"), 0o644)
			})
			require.NoError(t, err)
			require.True(t, wrote)
		}
		kernel.create(sample)
		write("new")
		require.NoError(t, s.request(typeGet, unix.NLM_F_DUMP, 1))
		write("dump")
		require.NoError(t, s.receive(func(*syscall.NetlinkMessage) error { return nil })) // its end
		kernel.destroy(sample)
		write("destroy")
	}
}
