package chain_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/ifaces/nstest"
	"github.com/weirnet/weir/bpf/chain/member"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// What the tests stand on: a veth pair between two network namespaces that carries nothing but
// numbered packets, and members that write down that they saw them.

// patience is how long a test waits for what must come; on a good day it takes milliseconds.
const patience = 20 * time.Second

const (
	near, far = "near0", "far0"
	// EtherTypes for local experiments (IEEE 802, annex 4): of the packets that members write down,
	// and of those that only show that all before them have come.
	numbered, fence = 0x88b5, 0x88b6
	// numbers is how many numbers packets can have (MAX_PACKETS of member.bpf.c).
	numbers = 65536
)

type bed struct {
	t          testing.TB
	namespaces [2]string // of near and far
	pin, state string
	object     string
	sockets    [2]sockets
	number     uint32 // of the next packet
	fences     uint32
	progress   func(chain.Stage) // may be nil
}

// sockets are of one end, for both types of packets.
type sockets struct{ numbered, fence int }

var beds atomic.Uint32

func newBed(t testing.TB) *bed {
	t.Helper()
	kerneltest.NeedRoot(t)
	b := &bed{t: t, namespaces: [2]string{nstest.New(t), nstest.New(t)}, state: t.TempDir(),
		pin: filepath.Join(bpffs.Folder, fmt.Sprintf("weir-chain-test-%d-%d", os.Getpid(), beds.Add(1)))}
	require.NoError(t, bpffs.Ensure(b.pin))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(b.pin)) })
	b.object = filepath.Join(t.TempDir(), "member.o")
	require.NoError(t, os.WriteFile(b.object, member.Object(), 0o600))
	b.link(near, far)
	for i, name := range []string{near, far} {
		b.inside(i, func() (err error) {
			if b.sockets[i].numbered, err = rawSocket(name, numbered); err != nil {
				return err
			}
			b.sockets[i].fence, err = rawSocket(name, fence)
			return err
		})
		t.Cleanup(func() { unix.Close(b.sockets[i].numbered); unix.Close(b.sockets[i].fence) })
	}
	return b
}

// inside runs fn in the namespace of near (0) or far (1).
func (b *bed) inside(side int, fn func() error) {
	b.t.Helper()
	require.NoError(b.t, ifaces.Do(b.namespaces[side], fn))
}

// link makes a veth pair, one end in each namespace.
func (b *bed) link(nearName, farName string) {
	b.t.Helper()
	other, err := os.Open(b.namespaces[0])
	require.NoError(b.t, err)
	defer other.Close()
	b.inside(1, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = farName
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nearName,
			PeerNamespace: netlink.NsFd(other.Fd())})
		if err != nil {
			return err
		}
		return quietUp(farName)
	})
	b.inside(0, func() error { return quietUp(nearName) })
}

// quietUp sets an interface up that says nothing of its own accord.
func quietUp(name string) error {
	quiet := fmt.Sprintf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", name)
	if err := os.WriteFile(quiet, []byte("1"), 0); err != nil && !os.IsNotExist(err) {
		return err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// rawSocket sends and receives packets of an EtherType at an interface of the thread's namespace.
func rawSocket(name string, etherType uint16) (int, error) {
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherType))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return 0, err
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: i.Index})
}

// frame is a packet with a number.
func frame(etherType uint16, number uint32) []byte {
	f := make([]byte, 60)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1})
	binary.BigEndian.PutUint16(f[12:], etherType)
	binary.BigEndian.PutUint32(f[14:], number)
	return f
}

// sides are the sockets' sides that a packet through a hook of the far end goes from and to.
func sides(kind hook.Kind) (from, to int) {
	if kind == hook.Egress {
		return 1, 0
	}
	return 0, 1
}

// send sends packets through a hook of the far end, and returns their numbers, and which came through.
func (b *bed) send(kind hook.Kind, count int) (sent []uint32, passed map[uint32]bool) {
	b.t.Helper()
	require.NoError(b.t, b.onOneCPU(func() error {
		from, _ := sides(kind)
		for range count {
			if err := write(b.sockets[from].numbered, frame(numbered, b.number)); err != nil {
				return err
			}
			sent = append(sent, b.number)
			b.number = (b.number + 1) % numbers
		}
		return b.fence(kind)
	}))
	_, to := sides(kind)
	passed = map[uint32]bool{}
	buf := make([]byte, 64)
	for {
		n, _, err := unix.Recvfrom(b.sockets[to].numbered, buf, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return sent, passed
		}
		require.NoError(b.t, err)
		require.GreaterOrEqual(b.t, n, 18)
		passed[binary.BigEndian.Uint32(buf[14:])] = true
	}
}

func write(socket int, frame []byte) error {
	_, err := unix.Write(socket, frame)
	if err == unix.ENOBUFS { // a program has dropped it on its way out
		return nil
	}
	return err
}

// fence waits until all packets that this CPU has sent are where they go: packets of one CPU stay in
// their order, and the members let the fence pass.
func (b *bed) fence(kind hook.Kind) error {
	from, to := sides(kind)
	b.fences++
	if err := write(b.sockets[from].fence, frame(fence, b.fences)); err != nil {
		return err
	}
	buf := make([]byte, 64)
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		_, _, err := unix.Recvfrom(b.sockets[to].fence, buf, unix.MSG_DONTWAIT)
		if err == nil && binary.BigEndian.Uint32(buf[14:]) == b.fences {
			return nil
		}
	}
	return errors.New("the fence did not come through")
}

// onOneCPU calls fn on a thread that stays on one CPU.
func (b *bed) onOneCPU(fn func() error) error {
	cpus, err := ownCPUs()
	if err != nil {
		return err
	}
	return onCPU(cpus[0], fn)
}

// onCPU calls fn on a thread that stays on a CPU.
func onCPU(cpu int, fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(fn(), unix.SchedSetaffinity(0, &all))
}

// ownCPUs are those that this process may run on.
func ownCPUs() (cpus []int, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(unix.Getpid(), &all); err != nil {
		return nil, err
	}
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// traces reads what the members of a chain did to packets.
func (b *bed) traces(kind hook.Kind, sent []uint32) [][]step {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.pin, "*-"+string(kind), "generation-*", "map--traces"))
	require.NoError(b.t, err)
	require.NotEmpty(b.t, files, "the chain has no map")
	m, err := ebpf.LoadPinnedMap(files[0], nil)
	require.NoError(b.t, err)
	defer m.Close()
	var all [][]step
	for _, n := range sent {
		var t member.Trace
		require.NoError(b.t, m.Lookup(n, &t))
		require.LessOrEqual(b.t, int(t.Steps), len(t.Step))
		steps := []step{}
		for _, s := range t.Step[:t.Steps] {
			steps = append(steps, step{s.Member, s.Generation})
		}
		all = append(all, steps)
		require.NoError(b.t, m.Put(n, member.Trace{}))
	}
	return all
}

// step says that a member ran, and of which generation of the test it was.
type step struct{ member, generation uint16 }

// manager opens a manager for the time of a call.
func (b *bed) manager(fn func(*chain.Manager)) {
	b.t.Helper()
	m, err := chain.Open(chain.Options{State: b.state, Pin: b.pin, Progress: b.progress})
	require.NoError(b.t, err)
	defer m.Close()
	fn(m)
}

func (b *bed) apply(s *chain.Spec, opts chain.ApplyOptions) (changes []chain.Change, err error) {
	b.t.Helper()
	b.manager(func(m *chain.Manager) { changes, err = m.Apply(s, opts) })
	return changes, err
}

// mustApply applies a chain at the far end.
func (b *bed) mustApply(c chain.Chain) chain.Change {
	b.t.Helper()
	changes, err := b.apply(&chain.Spec{Chains: []chain.Chain{c}}, chain.ApplyOptions{})
	require.NoError(b.t, err)
	require.Len(b.t, changes, 1)
	return changes[0]
}

// chain is a chain at the far end.
func (b *bed) chain(kind hook.Kind, backend string, members ...chain.Member) chain.Chain {
	return chain.Chain{Key: chain.Key{Namespace: b.namespaces[1], Interface: far, Hook: kind},
		Backend: backend, Members: members}
}

// member is a member with a number that gives a verdict; the order is its priority.
func (b *bed) member(kind hook.Kind, number, order int, verdict hook.Verdict, generation int) chain.Member {
	program := "tc_member"
	if kind == hook.XDP {
		program = "xdp_member"
	}
	return chain.Member{Name: fmt.Sprintf("m%02d", number), Priority: order, Object: b.object,
		Program: program, Constants: map[string]int64{"member": int64(number),
			"generation": int64(generation), "verdict": int64(verdict)}}
}

// own is the program at the far end's hook.
func (b *bed) hook(kind hook.Kind, backend string) (s hook.State) {
	b.t.Helper()
	b.inside(1, func() error {
		i, err := ifaces.Find("", far)
		if err != nil {
			return err
		}
		folder := filepath.Join(b.pin, fmt.Sprintf("%d-%d-%s", i.Inode, i.Index, kind))
		pin := "link"
		if backend == hook.TCXLinks {
			pin = "links"
		}
		p, err := hook.New(way{kind, backend}.point(), hook.Target{Interface: i.Index, Kind: kind,
			Pin: filepath.Join(folder, pin)})
		if err != nil {
			return err
		}
		s, err = p.State()
		return err
	})
	return s
}

// way is a hook and a backend.
type way struct {
	kind    hook.Kind
	backend string
}

func (w way) String() string { return string(w.kind) + "/" + w.backend }

// point is how package hook calls what the backend attaches by.
func (w way) point() string {
	if w.kind == hook.XDP {
		return hook.XDPLink
	}
	return w.backend
}

// members is how many the backend has room for.
func (w way) members() int {
	if w.backend == dispatcher {
		return 10
	}
	return 30
}

// The names of the backends for XDP.
const dispatcher, xdpLink = "xdp-dispatcher", "xdp-link"

// ways are all that there are, but links, which change in another way.
func ways() (all []way) {
	for _, k := range hook.Kinds() {
		for _, backend := range chain.Backends(k) {
			if backend != hook.TCXLinks {
				all = append(all, way{k, backend})
			}
		}
	}
	return all
}

// each runs a test for all ways that this kernel has, beside each other: most of their time they wait
// for the kernel to let go of what is old.
func each(t *testing.T, fn func(t *testing.T, b *bed, w way)) {
	t.Helper()
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.need(w)
			fn(t, b, w)
		})
	}
}

// need skips the test where the kernel lacks a backend. That it does is asked from the kernel in another way
// than the package asks: by its type information.
func (b *bed) need(w way) {
	b.t.Helper()
	if (w.backend == hook.TCX || w.backend == hook.TCXLinks) && !hasTCX(b.t) {
		b.t.Skip("skipped: this kernel has no tcx")
	}
	if w.backend != dispatcher && w.backend != eitherXDP {
		return
	}
	if err := features.HaveProgramType(ebpf.Extension); err != nil {
		b.t.Skipf("skipped: this kernel cannot replace functions: %v", err)
	}
}

func hasTCX(t testing.TB) bool {
	t.Helper()
	types, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	_, err = types.AnyTypeByName("tcx_entry")
	return err == nil
}
