package guest

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/agent/ifaces"
)

// loopback is the index of the first interface of every network namespace.
const loopback = 1

// occupied is a network namespace in which the kinds of hooks that agents attach to are in use.
//
// A kernel patches its code when the first hook of a kind comes into use, and when the last one goes, as it
// does in every scenario. Each byte patched makes an emulated CPU forget where its memory and its translated
// code are: that was a quarter of the times when it had to.
type occupied struct {
	namespace *os.File
	program   *ebpf.Program
	links     []link.Link
}

// occupyHooks keeps hooks in use for as long as what it returns is held.
func occupyHooks() (*occupied, error) {
	var o occupied
	if err := ifaces.DoNowhere(o.occupy); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return &o, nil
}

func (o *occupied) occupy() (err error) {
	if o.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return fmt.Errorf("hold the network namespace: %w", err)
	}
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: loopback, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(clsact); err != nil {
		return fmt.Errorf("add the clsact qdisc: %w", err)
	}
	const next = -1 // TCX_NEXT
	if o.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weir_occupied", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, next), asm.Return()},
	}); err != nil {
		return fmt.Errorf("load a program: %w", err)
	}
	for _, kind := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: loopback, Program: o.program, Attach: kind})
		if errors.Is(err, ebpf.ErrNotSupported) { // before Linux 6.6
			return nil
		}
		if err != nil {
			return fmt.Errorf("attach a program: %w", err)
		}
		o.links = append(o.links, l)
	}
	return nil
}

// Close lets the hooks go.
func (o *occupied) Close() error {
	var errs []error
	for _, l := range o.links {
		errs = append(errs, l.Close())
	}
	if o.program != nil {
		errs = append(errs, o.program.Close())
	}
	if o.namespace != nil {
		errs = append(errs, o.namespace.Close())
	}
	return errors.Join(errs...)
}
