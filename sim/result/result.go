// Package result holds what a run of scenarios found: the data behind results.json and every
// report made from it.
package result

import "time"

// SchemaVersion is the version of the JSON form of Report. It grows when a field changes its
// meaning or goes away; a new field does not change it.
const SchemaVersion = 1

// Verdict is the outcome of one scenario on one kernel.
type Verdict string

// The verdicts. Everything but Pass and Skip is red.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"    // judged: a difference from the golden file, the model or an invariant
	Skip    Verdict = "skip"    // a requirement is not met here; Reason says which
	Error   Verdict = "error"   // the harness or the machine failed
	Panic   Verdict = "panic"   // the kernel panicked while the scenario ran
	Splat   Verdict = "splat"   // the kernel warned (WARN, BUG, lockup) while the scenario ran
	Hang    Verdict = "hang"    // no sign of life within the deadline
	Exit    Verdict = "exit"    // the guest ended early without a panic
	Missing Verdict = "missing" // planned, but no record came although the guest said good-bye
	Corrupt Verdict = "corrupt" // a frame of the result channel did not check
)

// Red tells whether the verdict fails a run.
func (v Verdict) Red() bool { return v != Pass && v != Skip }

// Judged tells whether a red verdict is about the agent or the kernel, not about the harness.
func (v Verdict) Judged() bool { return v.Red() && v != Error && v != Corrupt }

// Field is one field that differs.
type Field struct {
	Name string `json:"name"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

// Difference is one thing that is not as expected.
type Difference struct {
	// Section is what was compared: flows, connections, labels, counters, conservation.
	Section string `json:"section"`
	// Against is what it was compared with: golden, model, witness, invariant, or oracle.
	Against string `json:"against"`
	// Kind is missing, extra, duplicate or differs.
	Kind string `json:"kind"`
	// Record is the one-line form of the record, as golden files write it.
	Record string  `json:"record"`
	Fields []Field `json:"fields,omitempty"` // for Kind differs
}

// Scenario is the result of one scenario on one kernel.
type Scenario struct {
	Name    string  `json:"name"` // path below scenarios/, without .yaml
	Summary string  `json:"summary,omitempty"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // one line, for every verdict but pass
	// Missing is what the kernel lacks of what the scenario requires; the verdict is skip then, or
	// fail where the kernel should have it.
	Missing []string `json:"missing,omitempty"`
	Millis  int64    `json:"ms"` // wall time
	// Change is what is different from the run before: "was fail", "is new". It is absent when nothing
	// is, or when the runs before are not known.
	Change      string       `json:"change,omitempty"`
	Differences []Difference `json:"differences,omitempty"`
	// Packets is what the independent witness saw at the agent's hooks.
	Packets uint64 `json:"packets,omitempty"`
	// OutOfMemory are the processes that the kernel has killed for want of memory, as the scenario wants it.
	OutOfMemory []int `json:"out_of_memory,omitempty"`
	// AgentLog is the agent's log, the console's slice what the kernel printed meanwhile.
	AgentLog string `json:"agent_log,omitempty"`
	Console  string `json:"console,omitempty"`
	// Notes are what a green result is green in spite of, a line each: tolerances that were used, or were
	// not needed, and a golden file of the kernel's own.
	Notes []string `json:"notes,omitempty"`
	// GoldenKernel is the kernel line whose own golden file judges; empty: that of all kernels does.
	GoldenKernel string `json:"golden_kernel,omitempty"`
	// Golden is the golden file that this run would write: set when everything but the golden
	// file agrees.
	Golden string `json:"golden,omitempty"`
	// Reproduce is the command that runs this scenario on this kernel alone.
	Reproduce string `json:"reproduce,omitempty"`
}

// Kernel is the result of all scenarios on one kernel. The host's own kernel is one too.
type Kernel struct {
	Line    string `json:"line"`              // what was asked for: "6.12", "newest", "host"
	Version string `json:"version,omitempty"` // uname -r of what ran
	Package string `json:"package,omitempty"` // package and version it came from
	SHA256  string `json:"sha256,omitempty"`  // of the package file
	// Unavailable is why the kernel could not be had; no scenario ran then.
	Unavailable string `json:"unavailable,omitempty"`
	Accel       string `json:"accel,omitempty"` // tcg, kvm, or host
	// Lane is what sets the machine apart from the usual one: "exact", whose clock goes by the
	// instructions it has run, or "smp 2", of two CPUs. Empty for the usual one.
	Lane       string `json:"lane,omitempty"`
	BootMillis int64  `json:"boot_ms,omitempty"`
	// BootCrashes is what the console said of each boot in which the kernel crashed before it came to a scenario.
	BootCrashes []string `json:"boot_crashes,omitempty"`
	Restores    int      `json:"restores,omitempty"` // times a snapshot was restored
	// Verified is how many instructions the kernel's verifier walked, for each program.
	Verified map[string]int `json:"verified,omitempty"`
	// Instructions is how many the machine carries out for a packet, by kind of packet.
	Instructions map[string]float64 `json:"instructions,omitempty"`
	// Memory is how many bytes each map of the datapath takes, as the kernel reckons.
	Memory map[string]uint64 `json:"memory,omitempty"`
	// LoadMillis is how long the datapath took to load; a guest's emulation is most of it.
	LoadMillis int64 `json:"load_ms,omitempty"`
	// Drift is what costs more or less than the baseline says, in words; it is red.
	Drift     []string   `json:"drift,omitempty"`
	Millis    int64      `json:"ms"`
	Scenarios []Scenario `json:"scenarios"`
}

// Report is a whole run.
type Report struct {
	SchemaVersion int       `json:"schema_version"`
	Started       time.Time `json:"started"`
	Millis        int64     `json:"ms"`
	Command       string    `json:"command"`
	Weir          string    `json:"weir"` // version of the binary
	// Shard is what part of the suite was run, as ParseShard reads it; empty for the whole.
	Shard   string   `json:"shard,omitempty"`
	Kernels []Kernel `json:"kernels"`
	// Outlines are what the scenarios are about, by name.
	Outlines map[string]Outline `json:"outlines,omitempty"`
	// Flaky are the scenarios that are not always red.
	Flaky []Flake `json:"flaky,omitempty"`
}

// Totals counts the verdicts of a report.
type Totals struct{ Passed, Failed, Skipped, Unavailable int }

// Totals counts scenarios over all kernels, and kernels that could not be had.
func (r *Report) Totals() Totals {
	var t Totals
	for _, k := range r.Kernels {
		if k.Unavailable != "" {
			t.Unavailable++
		}
		for _, s := range k.Scenarios {
			switch {
			case s.Verdict == Pass:
				t.Passed++
			case s.Verdict == Skip:
				t.Skipped++
			default:
				t.Failed++
			}
		}
	}
	return t
}

// The exit codes of weir's judging commands.
const (
	ExitGood    = 0 // nothing red
	ExitRed     = 1 // a scenario was judged red
	ExitUsage   = 2 // bad input or usage
	ExitHarness = 3 // the harness or the machine failed
	ExitFlaky   = 4 // flaky beyond the budget
)

// ExitCode is the exit code for the report: harness failures win over judged ones.
func (r *Report) ExitCode() int {
	code := ExitGood
	for _, k := range r.Kernels {
		if len(k.Drift) > 0 {
			code = ExitRed
		}
		for _, s := range k.Scenarios {
			switch {
			case s.Verdict == Error || s.Verdict == Corrupt:
				return ExitHarness
			case s.Verdict.Red():
				code = ExitRed
			}
		}
	}
	return code
}
