// Package relic leaves behind what an agent of an older layout leaves when it is killed: its maps,
// pinned, and its packet path at the hooks. Upgrades are tried on that. The objects are those that
// such agents had, and what is written here of them is history: it does not change with the code.
package relic

import (
	"bytes"
	_ "embed" // the objects
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Layout is the layout of what is left behind.
const Layout = 2

//go:embed layout2.o
var object []byte

// Options are what the agent was told. Its clock is virtual and stands still.
type Options struct {
	Pin       string // as of the agent that is to take over
	Table     int    // entries
	Lifetimes []time.Duration
	Overflow  bool
	Now       int64 // ns
}

// Datapath is what is left behind. Its maps and programs are there for tests to look at.
type Datapath struct {
	*ebpf.Collection
	Folder string // where it is pinned
	stubs  []*ebpf.Program
}

// Leave loads the packet path and pins its maps.
func Leave(opts Options) (*Datapath, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read the object: %w", err)
	}
	d := &Datapath{Folder: filepath.Join(opts.Pin, "v"+strconv.Itoa(Layout))}
	if err := os.MkdirAll(d.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the pin folder: %w", err)
	}
	for _, name := range []string{"conns4", "conns6", "hooks", "stats", "events", "flow_ids", "jump",
		"scratch", "fragments"} {
		spec.Maps[name].Pinning = ebpf.PinByName
	}
	spec.Maps["conns4"].MaxEntries = uint32(opts.Table)
	spec.Maps["conns6"].MaxEntries = uint32(opts.Table)
	for _, name := range []string{"weir_scan4", "weir_scan6"} { // of a living agent's, and not for all kernels
		delete(spec.Programs, name)
	}
	if err := configure(spec, &opts); err != nil {
		return nil, fmt.Errorf("set the object's settings: %w", err)
	}
	d.Collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Maps: ebpf.MapOptions{PinPath: d.Folder}})
	if err != nil {
		return nil, fmt.Errorf("load the object: %w", err)
	}
	for i, name := range []string{"weir_packet", "weir_parse", "weir_filter", "weir_track"} {
		if err := d.Maps["jump"].Put(uint32(i), d.Programs[name]); err != nil {
			return nil, errors.Join(fmt.Errorf("put %s in place: %w", name, err), d.Close())
		}
	}
	return d, nil
}

const virtualClock uint8 = 2

func configure(spec *ebpf.CollectionSpec, opts *Options) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	lifetimes := make([]uint64, 16)
	for i, l := range opts.Lifetimes {
		lifetimes[i] = uint64(l)
	}
	var overflow uint8
	if opts.Overflow {
		overflow = 1
	}
	return errors.Join(
		spec.Variables["clock_source"].Set(virtualClock),
		spec.Variables["possible_cpus"].Set(uint32(cpus)),
		spec.Variables["virtual_now"].Set(uint64(opts.Now)),
		spec.Variables["lifetime_ns"].Set(lifetimes),
		spec.Variables["overflow_to_ring"].Set(overflow),
	)
}

// Close lets go of it. What is pinned goes on, and so does what is attached.
func (d *Datapath) Close() error {
	d.Collection.Close()
	var errs []error
	for _, s := range d.stubs {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Hook is one direction of an interface in the namespace of the calling thread.
type Hook struct {
	Number    uint16 // that it had, from 1
	Interface int
	Egress    bool
	Namespace uint64 // inode
}

// hook is struct hook of the layout.
type hook struct {
	Zone           uint16
	Flags, Egress  uint8
	Interface      uint32
	NamespaceInode uint64
}

const hookOn = 1

// Hook gives a hook its number, and returns its stub, which Attach attaches.
func (d *Datapath) Hook(h Hook) (*ebpf.Program, error) {
	value := hook{Flags: hookOn, Interface: uint32(h.Interface), NamespaceInode: h.Namespace}
	if h.Egress {
		value.Egress = 1
	}
	if err := d.Maps["hooks"].Put(uint32(h.Number), value); err != nil {
		return nil, fmt.Errorf("write hook %d: %w", h.Number, err)
	}
	const cb4 = 64 // offset of cb[4] in struct __sk_buff
	stub, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weir_hook_" + strconv.Itoa(int(h.Number)), Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, int32(h.Number)),
			asm.StoreMem(asm.R1, cb4, asm.R2, asm.Word),
			asm.LoadMapPtr(asm.R2, d.Maps["jump"].FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, -1),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load the stub of hook %d: %w", h.Number, err)
	}
	d.stubs = append(d.stubs, stub)
	return stub, nil
}

// Attach attaches a hook's stub, by tcx where the kernel has it, else by tc.
func (d *Datapath) Attach(h Hook) error {
	stub, err := d.Hook(h)
	if err != nil {
		return err
	}
	kind := ebpf.AttachTCXIngress
	if h.Egress {
		kind = ebpf.AttachTCXEgress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: h.Interface, Program: stub, Attach: kind, Anchor: link.Head()})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return attachTC(h, stub)
	}
	if err != nil {
		return fmt.Errorf("attach hook %d: %w", h.Number, err)
	}
	return errors.Join(l.Pin(filepath.Join(d.Folder, "link-"+strconv.Itoa(int(h.Number)))), l.Close())
}

func attachTC(h Hook, stub *ebpf.Program) error {
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: h.Interface,
		Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(clsact); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the clsact qdisc: %w", err)
	}
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if h.Egress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	err := netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: h.Interface, Parent: parent, Handle: 0x77656972,
			Priority: 0xbeef, Protocol: unix.ETH_P_ALL},
		Fd: stub.FD(), Name: "weir", DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("add the filter: %w", err)
	}
	return nil
}
