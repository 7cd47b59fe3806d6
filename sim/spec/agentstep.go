package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var agentStepObject = object[rawStep]{
	what: "an agent step", doc: "What happens to the agent.",
	fields: []field[rawStep]{
		put("agent", "stop ends it in order, kill is SIGKILL, start starts it again, pause is SIGSTOP, "+
			"continue is SIGCONT, resize changes its tables, limit bounds its memory.",
			choice("stop", "kill", "start", "pause", "continue", "resize", "limit"), func(s *rawStep, v string) { s.step.Agent = v }).must(),
		put("table", "With start or resize: the size of each connection table from then on, in entries.",
			number[int](1, maxTable), func(s *rawStep, v int) { s.step.Table = v }),
		put("refused", "With resize: the agent refuses, for the size is too small for what it holds.",
			boolean(), func(s *rawStep, v bool) { s.step.Refused = v }),
		put("memory", "With limit: what the agent may have, by the kernel's reckoning.", sizeValue,
			func(s *rawStep, v uint64) { s.step.Memory = v }),
		put("killed", "With limit: the agent needs more, and the kernel kills it.",
			boolean(), func(s *rawStep, v bool) { s.step.Killed = v }),
	},
}

// sizes are the units of memory.
var sizes = map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// maxMemory bounds what an agent may be given, in bytes.
const maxMemory = 1 << 40

// sizeValue is an amount of memory, in bytes.
var sizeValue = match("a size", "64MiB", `^[1-9][0-9]*(KiB|MiB|GiB)$`, func(s string) (uint64, error) {
	digits := strings.TrimRight(s, "KMGiB")
	n, err := strconv.ParseUint(digits, 10, 64)
	unit := sizes[s[len(digits):]]
	if err != nil || n > maxMemory/unit {
		return 0, fmt.Errorf("it may be at most %dGiB", maxMemory>>30)
	}
	return n * unit, nil
})

// agentState is what the agent does at a step.
type agentState string

// The states of the agent.
const (
	runs   agentState = "runs"
	absent agentState = "does not run"
	paused agentState = "is paused"
)

// agentActions are what can happen to the agent: in which states, and the state it leads to.
var agentActions = map[string]struct {
	in []agentState
	to agentState
}{
	"start":    {[]agentState{absent}, runs},
	"stop":     {[]agentState{runs}, absent},
	"kill":     {[]agentState{runs, paused}, absent},
	"pause":    {[]agentState{runs}, paused},
	"continue": {[]agentState{paused}, runs},
	"resize":   {[]agentState{runs}, runs},
	"limit":    {[]agentState{runs}, runs},
}

// agentStep follows the agent's state, so that a scenario cannot stop what does not run.
func (r *resolver) agentStep(raw *rawStep) {
	action := raw.step.Agent
	if !slices.Contains(agentActions[action].in, r.running) {
		r.add(raw.at, fmt.Sprintf("cannot %s the agent: it %s here", action, r.running), "")
	}
	if action == "start" {
		r.watchedAreThere(raw.at)
	}
	r.running = agentActions[action].to
	if action == "limit" && raw.step.Killed {
		r.running = absent
	}
	switch {
	case action == "resize" && raw.step.Table == 0:
		r.add(raw.at, "resize needs the size", "add table: 1024")
	case action != "resize" && action != "start" && raw.step.Table > 0:
		r.add(raw.at, fmt.Sprintf("%s has no table", action), "table belongs to start and resize")
	case action != "resize" && raw.step.Refused:
		r.add(raw.at, fmt.Sprintf("%s is not refused", action), "refused belongs to resize")
	case action == "limit" && raw.step.Memory == 0:
		r.add(raw.at, "limit needs the memory", "add memory: 64MiB")
	case action != "limit" && (raw.step.Memory > 0 || raw.step.Killed):
		r.add(raw.at, fmt.Sprintf("%s has no memory, and kills nobody for it", action), "memory and killed belong to limit")
	}
	if action == "kill" || action == "pause" || action == "resize" || action == "limit" {
		r.scenario.Agent.Process = true
	}
	if action == "limit" {
		r.scenario.Agent.Limited = true
	}
}
