// Package cost holds what the datapath costs on each kernel against a file: how many instructions the
// verifier walks for each program, how many the machine carries out for a packet, and how much memory each
// map takes. All are exact for a kernel, so
// that a change means that the datapath, or the kernel, has changed. How long loading takes is not
// judged: that is the machine's.
package cost

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/weirnet/weir/agent/yamlfile"
	"github.com/weirnet/weir/sim/result"
)

// tolerance is by which part of the baseline a cost may differ: a kernel's point release changes the
// verifier's way a little.
const tolerance = 0.05

// toleranceOfPackets is that of instructions per packet. Which buckets of the kernel's hash tables packets fall
// into is another with each binary, as the guest's random numbers are: 7 % were seen.
const toleranceOfPackets = 0.10

// Baseline is what each kernel has cost, by its line: "6.12".
type Baseline map[string]Costs

// Costs are those on one kernel.
type Costs struct {
	// Verified is how many instructions the verifier walks, by program.
	Verified map[string]int `yaml:"verified"`
	// Instructions are those of the machine for a packet, by kind of packet.
	Instructions map[string]float64 `yaml:"instructions"`
	// Memory is in bytes, by map.
	Memory map[string]uint64 `yaml:"memory"`
}

// Read reads a baseline. Errors name the file and the place.
func Read(file string) (Baseline, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the baseline of costs: %w", err)
	}
	b := Baseline{}
	if err := yamlfile.Decode(file, data, &b); err != nil {
		return nil, err
	}
	for line := range b {
		if lineOf(line) != line {
			return nil, fmt.Errorf("%s: %q is no kernel line; want one like 6.12", file, line)
		}
	}
	return b, nil
}

// Write writes a baseline.
func Write(file string, b Baseline) error {
	var out bytes.Buffer
	out.WriteString("# What the datapath costs on each kernel. Written by weir vm run --costs FILE --update.\n")
	text, err := yaml.Marshal(b)
	if err == nil {
		out.Write(text)
		err = os.WriteFile(file, out.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the baseline of costs: %w", err)
	}
	return nil
}

var release = regexp.MustCompile(`^[1-9][0-9]*\.[0-9]+`)

// lineOf is a kernel's line, whatever name it was asked for by.
func lineOf(version string) string { return release.FindString(version) }

// Take makes the kernels' costs the baseline; those of other kernels stay.
func (b Baseline) Take(kernels []result.Kernel) {
	for _, k := range kernels {
		if len(k.Verified) > 0 {
			b[lineOf(k.Version)] = Costs{k.Verified, k.Instructions, k.Memory}
		}
	}
}

// Unknown tells that a kernel ran of whose line the baseline has nothing: a new one, say.
func (b Baseline) Unknown(k *result.Kernel) bool {
	_, known := b[lineOf(k.Version)]
	return len(k.Verified) > 0 && !known
}

// Drift tells in words what is not as the baseline says.
func (b Baseline) Drift(k *result.Kernel) []string {
	want, ok := b[lineOf(k.Version)]
	if len(k.Verified) == 0 || !ok { // it did not load, which is red by itself; or it is unknown
		return nil
	}
	return slices.Concat(drift("instructions walked by the verifier", want.Verified, k.Verified, tolerance),
		drift("instructions per packet", want.Instructions, k.Instructions, toleranceOfPackets),
		drift("bytes of memory", want.Memory, k.Memory, tolerance))
}

// drift compares costs of one kind.
func drift[N int | uint64 | float64](what string, want, got map[string]N, tolerance float64) (all []string) {
	names := slices.Sorted(maps.Keys(want))
	for name := range got {
		if _, ok := want[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		was, known := want[name]
		is, there := got[name]
		switch change := float64(is) - float64(was); {
		case !known:
			all = append(all, fmt.Sprintf("%s: %v %s, none in the baseline", name, is, what))
		case !there:
			all = append(all, fmt.Sprintf("%s: gone, %v %s in the baseline", name, was, what))
		case max(change, -change) > tolerance*float64(was):
			all = append(all, fmt.Sprintf("%s: %v %s, %v in the baseline (%+.1f %%, %.0f %% are tolerated)",
				name, is, what, was, 100*change/float64(max(was, 1)), 100*tolerance))
		}
	}
	return all
}
