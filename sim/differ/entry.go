package differ

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The entry is a small program between a test run and the programs behind the hooks. It makes what a test run
// cannot: a frame that is shorter than the kernel takes one (since 6.17 an IP header must be
// whole), and a VLAN tag beside the frame.

// The words of skb->cb through which the entry is told what to do.
const (
	cbLength = iota // of the frame, or 0 to leave it as it is
	cbTag           // not 0: put a tag beside the frame
	cbHook          // where to go on
)

// entryContext is struct __sk_buff of linux/bpf.h, as far as a test run takes it.
type entryContext struct {
	_        [48]byte
	CB       [5]uint32
	_        [96]byte
	Segments uint32
	_        [8]byte
	SegSize  uint32
}

const (
	cbOffset     = 48 // of cb in struct __sk_buff
	wholeFrame   = 64 // bytes with which every kernel takes every frame
	failedEntry  = 100
	letOthersSay = ^uint32(0) // what the packet path returns
)

// loadEntry loads the entry to an array of programs.
func loadEntry(programs *ebpf.Map) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weir_differ", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.LoadMem(asm.R2, asm.R6, cbOffset+4*cbLength, asm.Word),
			asm.JEq.Imm(asm.R2, 0, "tag"),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeTail.Call(),
			asm.JNE.Imm(asm.R0, 0, "failed"),
			asm.LoadMem(asm.R2, asm.R6, cbOffset+4*cbTag, asm.Word).WithSymbol("tag"),
			asm.JEq.Imm(asm.R2, 0, "jump"),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, 0), // the default: 802.1Q
			asm.Mov.Imm(asm.R3, 7),
			asm.FnSkbVlanPush.Call(),
			asm.JNE.Imm(asm.R0, 0, "failed"),
			asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("jump"),
			asm.LoadMapPtr(asm.R2, programs.FD()),
			asm.LoadMem(asm.R3, asm.R6, cbOffset+4*cbHook, asm.Word),
			asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, failedEntry).WithSymbol("failed"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load the entry to the packet path: %w", err)
	}
	return p, nil
}

// send lets the packet path see a frame.
func (k *kernel) send(s *Step) error { return k.sendWith(&k.context, s) }

// sendWith is send with a context of the caller's own, who may be one of several.
func (k *kernel) sendWith(ctx *entryContext, s *Step) error {
	frame := s.Frame
	*ctx = entryContext{Segments: uint32(s.Segments)}
	ctx.CB[cbHook] = uint32(s.Hook)
	if s.Hook < 1 || s.Hook > Hooks {
		ctx.CB[cbHook] = noHook
	}
	if s.Segments > 0 {
		ctx.SegSize = 1
	}
	if s.Tag {
		ctx.CB[cbTag] = 1
	}
	if len(frame) < wholeFrame && s.Segments == 0 { // a packet that is cut is not GSO any more
		ctx.CB[cbLength] = uint32(len(frame))
		frame = slices.Concat(frame, make([]byte, wholeFrame-len(frame)))
	}
	ret, err := k.entry.Run(&ebpf.RunOptions{Data: frame, Context: ctx})
	if err != nil {
		return fmt.Errorf("run the packet path on %d bytes: %w", len(s.Frame), err)
	}
	if ret != letOthersSay {
		return fmt.Errorf("the packet path returned %d for %d bytes", int32(ret), len(s.Frame))
	}
	return nil
}
