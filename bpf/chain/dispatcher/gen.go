// Package dispatcher is the program of an XDP chain whose members replace its functions.
package dispatcher

import (
	"fmt"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel dispatcher dispatcher.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu

// MaxMembers is how many members the program can call (MAX_MEMBERS of dispatcher.bpf.c).
const MaxMembers = 10

// Program is the name of the program.
const Program = dispatcherProgWeirChain

// Function is the name of the function that the member at an index replaces.
func Function(index int) string { return fmt.Sprintf("member%d", index) }

// Member says what is done with the verdicts of a member.
type Member struct {
	// Proceed is a mask, 1 << verdict, of the verdicts with which the packet goes on to the next member.
	Proceed uint32
	// Broken is the chain's verdict when the member has gone missing.
	Broken uint32
}

// Spec is the program for so many members. Those beyond MaxMembers are an error.
func Spec(members []Member) (*ebpf.CollectionSpec, error) {
	if len(members) > MaxMembers {
		return nil, fmt.Errorf("%d members; a dispatcher has room for %d", len(members), MaxMembers)
	}
	spec, err := loadDispatcher()
	if err != nil {
		return nil, fmt.Errorf("read the dispatcher: %w", err)
	}
	var proceed, broken [MaxMembers]uint32
	for i, m := range members {
		proceed[i], broken[i] = m.Proceed, m.Broken
	}
	for name, value := range map[string]any{dispatcherVarMembers: uint8(len(members)),
		dispatcherVarProceed: proceed, dispatcherVarBroken: broken} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s of the dispatcher: %w", name, err)
		}
	}
	return spec, nil
}
