package program

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/weirnet/weir/agent/chain/hook"
)

// next is where a member hands a packet on to.
type next struct {
	array int // file descriptor of the generation's program array
	index int // of the next member there; constant, so that the JIT makes it a direct jump
	last  bool
}

// goesOn are the verdicts of a member with which it does not simply end.
func (n next) goesOn(kind hook.Kind, m *Member) []hook.Verdict {
	return slices.DeleteFunc(slices.Clone(m.Proceed), func(v hook.Verdict) bool {
		return n.last && kind.End(v) == v
	})
}

// A form makes of a member's program, which knows nothing of chains, one that is part of a chain.
type form func(spec *ebpf.ProgramSpec) error

// prepare makes a member's program one that can be loaded, in a form.
func prepare(spec *ebpf.ProgramSpec, m *Member, as form) error {
	if len(spec.Instructions) == 0 || spec.Instructions[0].Symbol() == "" {
		return errors.New("the program is empty")
	}
	spec.Name = m.Name
	// Where it is attached is said when it is; members made for older and newer hooks mix.
	spec.AttachType = ebpf.AttachNone
	return as(spec)
}

// A wrapper puts the code that hands a packet on behind a member's own.
type wrapper func(own asm.Instructions, handOn func(context asm.Instruction) asm.Instructions) (asm.Instructions, error)

// wrappers lists the wrappers, the best first. Where the verifier refuses one, the next is tried.
var wrappers = []wrapper{inRegister, onStack, called}

// wrappersOf are those that suit a member: what it jumps to comes back to a call only.
func wrappersOf(m *Member) []wrapper {
	if m.Jumps > 0 {
		return []wrapper{called}
	}
	return wrappers
}

// wraps are the forms that have a member hand packets on by itself.
func wraps(kind hook.Kind, m *Member, to next) (forms []form) {
	for _, wrap := range wrappersOf(m) {
		forms = append(forms, func(spec *ebpf.ProgramSpec) (err error) {
			if len(to.goesOn(kind, m)) == 0 {
				return nil
			}
			spec.Instructions, err = wrap(slices.Clone(spec.Instructions), func(context asm.Instruction) asm.Instructions {
				return handOn(kind, m, to, context)
			})
			return err
		})
	}
	return forms
}

// The names of labels and functions that are added to a member's.
const (
	labelVerdict = "weir_chain_verdict"
	labelProceed = "weir_chain_proceed"
	outerName    = "weir_chain"
)

// handOn is the code for a verdict in R0. The instruction given moves the program's context to R1.
func handOn(kind hook.Kind, m *Member, to next, context asm.Instruction) asm.Instructions {
	var code asm.Instructions
	for _, v := range to.goesOn(kind, m) {
		code = append(code, asm.JEq.Imm32(asm.R0, int32(v), labelProceed))
	}
	code = append(code, asm.Return())
	if to.last {
		return append(code, asm.Mov.Imm(asm.R0, int32(kind.Pass())).WithSymbol(labelProceed), asm.Return())
	}
	// That there is no next member cannot happen while the generation is complete; a broken one fails
	// open or closed.
	broken := kind.Pass()
	if m.FailClosed {
		broken = kind.Drop()
	}
	return append(code,
		context.WithSymbol(labelProceed),
		asm.LoadMapPtr(asm.R2, to.array),
		asm.Mov.Imm(asm.R3, int32(to.index)),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, int32(broken)),
		asm.Return(),
	)
}

// maxStack is how much stack a program has, in bytes (MAX_BPF_STACK of linux/filter.h).
const maxStack = 512

// contextSize is the size of a pointer to a program's context, in bytes.
const contextSize = 8

// What a member leaves no room for its context in.
var (
	errRegisters = errors.New("it uses all of the registers R6 to R9")
	errStack     = fmt.Errorf("it leaves less than %d of its %d bytes of stack alone", contextSize, maxStack)
)

// inRegister keeps the context in a register that the member does not use.
func inRegister(own asm.Instructions, handOn func(asm.Instruction) asm.Instructions) (asm.Instructions, error) {
	free := unused(mainOf(own))
	if len(free) == 0 {
		return nil, errRegisters
	}
	return inline(own, asm.Mov.Reg(free[0], asm.R1), handOn(asm.Mov.Reg(asm.R1, free[0]))), nil
}

// unused are the registers that keep what is in them through calls, and that a function does not touch.
func unused(function asm.Instructions) []asm.Register {
	return slices.DeleteFunc([]asm.Register{asm.R9, asm.R8, asm.R7, asm.R6}, func(r asm.Register) bool {
		return slices.ContainsFunc(function, func(ins asm.Instruction) bool { return ins.Dst == r || ins.Src == r })
	})
}

// onStack keeps the context on the stack, below what the member uses; that nothing else is written there, the verifier
// proves.
func onStack(own asm.Instructions, handOn func(asm.Instruction) asm.Instructions) (asm.Instructions, error) {
	slot := lowest(mainOf(own)) - contextSize
	slot -= (maxStack + slot) % contextSize
	if slot < -maxStack {
		return nil, errStack
	}
	return inline(own, asm.StoreMem(asm.R10, slot, asm.R1, asm.DWord), handOn(asm.LoadMem(asm.R1, asm.R10, slot, asm.DWord))), nil
}

// inline makes the member's returns jump to the code that hands on, after an instruction that keeps the context. A call
// instead would cost its return, which is dear where the CPU's return predictor is not trusted.
func inline(own asm.Instructions, keep asm.Instruction, handOn asm.Instructions) asm.Instructions {
	end := len(mainOf(own))
	code := asm.Instructions{keep}
	for _, ins := range own[:end] {
		if ins.OpCode.JumpOp() == asm.Exit {
			ins = asm.Ja.Label(labelVerdict).WithSource(ins.Source())
		}
		code = append(code, ins)
	}
	moveHead(&code[0], &code[1])
	handOn[0] = handOn[0].WithSymbol(labelVerdict)
	return slices.Concat(code, handOn, own[end:])
}

// moveHead makes an instruction the first of a function.
func moveHead(to, from *asm.Instruction) {
	*to = btf.WithFuncMetadata(to.WithSymbol(from.Symbol()), btf.FuncMetadata(from)).WithSource(from.Source())
	*from = btf.WithFuncMetadata(from.WithSymbol(""), nil)
}

// mainOf is the first function of a program.
func mainOf(program asm.Instructions) asm.Instructions {
	for i := 1; i < len(program); i++ {
		if program[i].Symbol() != "" {
			return program[:i]
		}
	}
	return program
}

// lowest is the lowest place on the stack that a function uses, as far as can be seen in passing.
func lowest(function asm.Instructions) int16 {
	low := int64(0)
	bases := map[asm.Register]int64{asm.R10: 0} // registers that point to the stack
	for _, ins := range function {
		op := ins.OpCode
		if base, ok := bases[ins.Dst]; ok && op.Class().IsStore() {
			low = min(low, base+int64(ins.Offset))
		}
		if base, ok := bases[ins.Src]; ok && op.Class().IsLoad() {
			low = min(low, base+int64(ins.Offset))
		}
		if op.Class() == asm.ALU64Class {
			base, ok := bases[ins.Src]
			mine, own := bases[ins.Dst]
			switch {
			case op.ALUOp() == asm.Mov && op.Source() == asm.RegSource && ok:
				bases[ins.Dst] = base
			case op.ALUOp() == asm.Add && op.Source() == asm.ImmSource && own && ins.Dst != asm.R10:
				bases[ins.Dst] = mine + ins.Constant
				low = min(low, bases[ins.Dst])
			}
		}
	}
	return int16(max(low, -maxStack))
}

// called makes the member's program a function that another one calls, if the kernel lets them have so much stack
// together. It suits members that use all registers and all of their stack, or hide how they use it.
func called(own asm.Instructions, handOn func(asm.Instruction) asm.Instructions) (asm.Instructions, error) {
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1).WithSymbol(outerName),
		asm.Call.Label(own[0].Symbol()),
	}
	if fn := btf.FuncMetadata(&own[0]); fn != nil {
		inside, outside := *fn, *fn
		inside.Linkage, inside.Tags = btf.StaticFunc, nil
		outside.Name, outside.Tags = outerName, nil
		own[0] = btf.WithFuncMetadata(own[0], &inside)
		code[0] = btf.WithFuncMetadata(code[0], &outside)
	}
	// A program whose functions have lines must have one at the beginning of each.
	code[0] = code[0].WithSource(own[0].Source())
	return slices.Concat(code, handOn(asm.Mov.Reg(asm.R1, asm.R6)), own), nil
}

// entry finds a member's program: the one of its name, or the only one that fits the hook.
func entry(spec *ebpf.CollectionSpec, kind hook.Kind, name string) (string, error) {
	var fit []string
	for n, p := range spec.Programs {
		if p.Type == kind.ProgramType() {
			fit = append(fit, n)
		}
	}
	slices.Sort(fit)
	switch {
	case name == "" && len(fit) == 1:
		return fit[0], nil
	case name == "":
		return "", fmt.Errorf("which program? The object has %d for %s: %q", len(fit), kind, fit)
	case !slices.Contains(fit, name):
		return "", fmt.Errorf("the object has no program %q for %s (there are: %q)", name, kind, fit)
	}
	return name, nil
}
