package program

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/weirnet/weir/agent/chain/hook"
)

// Stage is a member that is a place for a program of somebody else, which it calls through a program array with one
// slot. The array lives on in the next generation, whatever the member's place there; while the slot is empty, packets
// go on to the next member. jumps is how many tail calls a packet takes there at most, beside the one into the slot.
func Stage(kind hook.Kind, name, stage string, jumps int) Member {
	const function = "main"
	slot := slotMap(stage)
	code := asm.Instructions{
		asm.LoadMapPtr(asm.R2, 0).WithReference(slot).WithSymbol(function),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, int32(kind.Pass())),
		asm.Return(),
	}
	code[0] = btf.WithFuncMetadata(code[0], typeOf(kind, function))
	return Member{Name: name, Jumps: jumps + 1, Proceed: []hook.Verdict{kind.Pass()}, Object: &ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{
			function: {Name: function, Type: kind.ProgramType(), License: "Dual BSD/GPL", Instructions: code}},
		Maps: map[string]*ebpf.MapSpec{
			slot: {Name: slot, Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1}}}}
}

// slotMap is the name of the array of a stage.
func slotMap(stage string) string { return "weir_" + stage }

// Slot is the program array, of one slot, through which a member calls a stage. It stays the generation's.
func (g *Generation) Slot(member, stage string) (*ebpf.Map, error) {
	m := g.maps[ownPin(member, "", slotMap(stage))]
	if m == nil {
		return nil, fmt.Errorf("the generation has no array for stage %s in member %s", stage, member)
	}
	return m, nil
}
