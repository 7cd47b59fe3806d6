package bench

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// A test run sends one packet again and again. The driver is a program that makes it another
// one at each turn, and jumps to the program under test. The same driver in front of an empty
// program costs what is to be subtracted.
type driver struct {
	program *ebpf.Program
	state   *ebpf.Map
	jump    *ebpf.Map
}

// turn is the driver's state. It goes through the flows in steps that are prime to their
// number: each comes once a cycle, in an order in which neither memory nor keys are sorted.
type turn struct {
	Next  uint64 // number of the flow that comes next
	Step  uint64
	Flows uint64
	Total uint64 // turns made
}

// Offsets in struct turn, and in struct __sk_buff (linux/bpf.h).
const (
	turnNext, turnStep, turnFlows, turnTotal = 0, 8, 16, 24
	turnSize                                 = 32

	skbData, skbDataEnd = 76, 80
)

// newDriver puts a driver in front of a program. Tail calls want both to be made for the same
// kind of attachment.
func newDriver(p packet, target *ebpf.Program, kind ebpf.AttachType) (*driver, error) {
	d := &driver{}
	if err := d.load(p, target, kind); err != nil {
		return nil, errors.Join(fmt.Errorf("load the driver: %w", err), d.close())
	}
	return d, nil
}

func (d *driver) load(p packet, target *ebpf.Program, kind ebpf.AttachType) error {
	var err error
	d.state, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "bench_turn", Type: ebpf.Array, KeySize: 4, ValueSize: turnSize, MaxEntries: 1,
	})
	if err != nil {
		return err
	}
	d.jump, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "bench_jump", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1,
	})
	if err != nil {
		return err
	}
	d.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_driver", Type: ebpf.SchedCLS, AttachType: kind, License: "Dual BSD/GPL",
		Instructions: d.instructions(p),
	})
	if err != nil {
		return err
	}
	return d.jump.Put(uint32(0), target)
}

// instructions take the next flow's number into R8, write it into the packet and jump. The source
// address is written as one word as wide as those it is read by: a narrower write would make
// the program under test wait for the store.
func (d *driver) instructions(p packet) asm.Instructions {
	base, width := uint64(binary.LittleEndian.Uint32(p.frame[p.source:])), asm.Word
	if p.v6 {
		base, width = binary.LittleEndian.Uint64(p.frame[p.source:]), asm.DWord
	}
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapValue(asm.R7, d.state.FD(), 0),
		asm.LoadMem(asm.R1, asm.R7, turnTotal, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, turnTotal, asm.R1, asm.DWord),
		asm.LoadMem(asm.R8, asm.R7, turnNext, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.LoadMem(asm.R3, asm.R7, turnStep, asm.DWord),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.LoadMem(asm.R3, asm.R7, turnFlows, asm.DWord),
		asm.JLT.Reg(asm.R2, asm.R3, "store"),
		asm.Sub.Reg(asm.R2, asm.R3),
		asm.StoreMem(asm.R7, turnNext, asm.R2, asm.DWord).WithSymbol("store"),

		asm.LoadMem(asm.R2, asm.R6, skbData, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(p.port)+2),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
		// The upper 16 bits of the number go into the address's second byte (of the word), the
		// lower ones into the port.
		asm.LoadImm(asm.R4, int64(base), asm.DWord),
		asm.Mov.Reg(asm.R5, asm.R8),
		asm.RSh.Imm(asm.R5, 16),
		asm.LSh.Imm(asm.R5, 8),
		asm.Add.Reg(asm.R4, asm.R5),
		asm.StoreMem(asm.R2, int16(p.source), asm.R4, width),
		asm.StoreMem(asm.R2, int16(p.port), asm.R8, asm.Half),

		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, d.jump.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	}
}

// maxFlows is how many flows a driver can tell apart: 16 bits of port, 8 of address.
const maxFlows = 1 << 24

// set makes the driver begin at the first of so many flows. Sorted takes them in order.
func (d *driver) set(flows int, sorted bool) error {
	if flows < 1 || flows > maxFlows {
		return fmt.Errorf("%d flows: want 1 to %d", flows, maxFlows)
	}
	t := turn{Step: 1, Flows: uint64(flows)}
	if !sorted {
		t.Step = step(uint64(flows))
	}
	return d.state.Put(uint32(0), &t)
}

// step is near n over the golden ratio and prime to n; 1 for the smallest n.
func step(n uint64) uint64 {
	for s := n * 618 / 1000; s > 1; s-- {
		if gcd(s, n) == 1 {
			return s
		}
	}
	return 1
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// turns is how many packets the driver has sent since set.
func (d *driver) turns() (int, error) {
	var t turn
	err := d.state.Lookup(uint32(0), &t)
	return int(t.Total), err
}

func (d *driver) close() error {
	var errs []error
	if d.program != nil {
		errs = append(errs, d.program.Close())
	}
	for _, m := range []*ebpf.Map{d.state, d.jump} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}
