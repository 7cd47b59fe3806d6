package bpf

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/cilium/ebpf"
)

// VerifierEffort returns how many instructions the kernel's verifier has walked for each program.
func (d *Datapath) VerifierEffort() (map[string]int, error) {
	walked := map[string]int{}
	programs := map[string]*ebpf.Program{
		"weir_packet": d.objs.WeirPacket, "weir_parse": d.objs.WeirParse,
		"weir_filter": d.objs.WeirFilter, "weir_track": d.objs.WeirTrack,
		"weir_collect": d.objs.WeirCollect,
	}
	if d.iter != nil {
		programs["weir_show4"], programs["weir_show6"] = d.iter.objs.WeirShow4, d.iter.objs.WeirShow6
	}
	for name, p := range programs {
		n, err := Walked(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		walked[name] = n
	}
	return walked, nil
}

// Walked returns how many instructions the kernel's verifier has walked for a program that was loaded
// with the log level ebpf.LogLevelStats.
func Walked(p *ebpf.Program) (int, error) { return processed(p.VerifierLog) }

// statistics is the last line of what the verifier says of a program. Since 7.2 another one before it
// tells of its parts.
var statistics = regexp.MustCompile(`(?m)^processed (\d+) insns`)

// processed reads the verifier's statistics: "processed 454 insns (limit 1000000) ...".
func processed(log string) (int, error) {
	found := statistics.FindStringSubmatch(log)
	if found == nil {
		return 0, fmt.Errorf("the verifier's log does not say how much it processed: %q", log)
	}
	return strconv.Atoi(found[1])
}
