// Package hook is where chains hang: one program at a hook of an interface, which is put there,
// swapped for another in one piece, and taken off, beside the programs of other owners.
package hook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// Kind is a hook of an interface.
type Kind string

// The kinds of hooks.
const (
	XDP     Kind = "xdp"
	Ingress Kind = "tc-ingress"
	Egress  Kind = "tc-egress"
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{XDP, Ingress, Egress} }

// ParseKind reads the name of a kind.
func ParseKind(name string) (Kind, error) {
	if k := Kind(name); slices.Contains(Kinds(), k) {
		return k, nil
	}
	return "", fmt.Errorf("%q is no hook; want %s, %s or %s", name, XDP, Ingress, Egress)
}

// ProgramType is the type of programs that run at the hook.
func (k Kind) ProgramType() ebpf.ProgramType {
	if k == XDP {
		return ebpf.XDP
	}
	return ebpf.SchedCLS
}

// Verdict is what a program returns.
type Verdict int32

// Verdicts that the package's users have to know. Of the traffic control (linux/pkt_cls.h), and of
// XDP (enum xdp_action of linux/bpf.h).
const (
	TCNext Verdict = -1 // TC_ACT_UNSPEC, TCX_NEXT: the programs of others come next
	TCOk   Verdict = 0
	TCShot Verdict = 2
	TCPipe Verdict = 3

	XDPDrop Verdict = 1
	XDPPass Verdict = 2
)

var (
	tcVerdicts = map[string]Verdict{
		"next": TCNext, "ok": TCOk, "reclassify": 1, "drop": TCShot, "pipe": TCPipe, "stolen": 4,
		"queued": 5, "repeat": 6, "redirect": 7, "trap": 8,
	}
	xdpVerdicts = map[string]Verdict{
		"aborted": 0, "drop": XDPDrop, "pass": XDPPass, "tx": 3, "redirect": 4,
	}
)

func (k Kind) verdicts() map[string]Verdict {
	if k == XDP {
		return xdpVerdicts
	}
	return tcVerdicts
}

// Verdict is the verdict of a name.
func (k Kind) Verdict(name string) (Verdict, error) {
	all := k.verdicts()
	v, ok := all[name]
	if !ok {
		byValue := func(a, b string) int { return int(all[a] - all[b]) }
		return 0, fmt.Errorf("%q is no verdict of %s; want one of %s", name, k,
			strings.Join(slices.SortedFunc(maps.Keys(all), byValue), ", "))
	}
	return v, nil
}

// Passing are the verdicts that let a packet pass: what a member proceeds on when it does not say.
func (k Kind) Passing() []string {
	if k == XDP {
		return []string{"pass"}
	}
	return []string{"next", "ok", "pipe"}
}

// Drop is the verdict that drops a packet.
func (k Kind) Drop() Verdict {
	if k == XDP {
		return XDPDrop
	}
	return TCShot
}

// End is the verdict of a chain whose last member gave v and lets the packet go on: in the traffic
// control, the programs of others come next.
func (k Kind) End(v Verdict) Verdict {
	if k != XDP && (v == TCOk || v == TCPipe) {
		return TCNext
	}
	return v
}

// Pass is the verdict of a chain that has nothing to say about a packet.
func (k Kind) Pass() Verdict {
	if k == XDP {
		return XDPPass
	}
	return TCNext
}
