package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// VerifierEffort returns how many instructions the kernel's verifier has walked for each program.
// Kernels before 5.16 do not tell: the map is empty there.
func (d *Datapath) VerifierEffort() (map[string]int, error) {
	walked := map[string]int{}
	for name, p := range map[string]*ebpf.Program{
		"weir_packet": d.objs.WeirPacket, "weir_parse": d.objs.WeirParse,
		"weir_filter": d.objs.WeirFilter, "weir_track": d.objs.WeirTrack,
		"weir_collect": d.objs.WeirCollect,
	} {
		info, err := p.Info()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if n, ok := info.VerifiedInstructions(); ok {
			walked[name] = int(n)
		}
	}
	return walked, nil
}
