package program

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/weirnet/weir/agent/chain/hook"
)

// Returning is a member whose program does nothing but give a verdict. With such members it is asked whether a kernel
// has a wiring, and what that costs by itself.
func Returning(kind hook.Kind, name string, v hook.Verdict, proceed ...hook.Verdict) Member {
	const function = "main"
	code := asm.Instructions{asm.Mov.Imm32(asm.R0, int32(v)).WithSymbol(function), asm.Return()}
	code[0] = btf.WithFuncMetadata(code[0], typeOf(kind, function))
	return Member{Name: name, Proceed: proceed, Object: &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{
		function: {Name: function, Type: kind.ProgramType(), License: "GPL", Instructions: code}}}}
}

// typeOf is the type of a program as C has it: int NAME(struct xdp_md *ctx), or of __sk_buff. The kernel looks at the
// structure's name, not at what is in it.
func typeOf(kind hook.Kind, name string) *btf.Func {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	context := &btf.Struct{Name: "__sk_buff", Size: 4, Members: []btf.Member{{Name: "len", Type: number}}}
	if kind == hook.XDP {
		context.Name = "xdp_md"
	}
	return &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{Return: number,
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: context}}}}}
}
