package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Program is a flow agent of somebody else that takes the place of weir's own. It runs in the
// network namespace of the host that is watched, and what it writes is judged.
type Program struct {
	// Command is what to run. {weir} in it is this program, {dir} a folder that is the run's own.
	Command []string
	// Flows is the file of JSON lines that the program writes, below {dir}.
	Flows string
	// Map is the file that tells what the program calls our terms; its path is relative to the
	// scenario's file.
	Map string
	// Ready is a text in the program's log by which it says that it watches.
	Ready string
	// Settled tells that the program has taken in all packets; nil: nothing does.
	Settled *Probe
	// Needs are other programs, by their names, and files, by absolute paths, that these commands need.
	Needs []string
}

// Self is the placeholder for this program in commands.
const Self = "{weir}"

// All are the programs and files that must be there: those of the commands, one that a command runs
// behind "--", and what they need.
func (p *Program) All() []string {
	commands := [][]string{p.Command}
	if i := slices.Index(p.Command, "--"); i >= 0 && i+1 < len(p.Command) {
		commands = append(commands, p.Command[i+1:])
	}
	if p.Settled != nil {
		commands = append(commands, p.Settled.Command)
	}
	var all []string
	for _, c := range commands {
		if c[0] != Self {
			all = append(all, c[0])
		}
	}
	return append(all, p.Needs...)
}

// Probe is a command that is repeated until it says something.
type Probe struct {
	Command []string // in the host's namespace, with the program's placeholders
	Says    string   // {packets} in it is how many packets have passed the watched interfaces
}

// Known is something that the program is known to get wrong.
type Known struct {
	Flow   string // "client:40000 > server:80 tcp"
	Kind   string // missing, extra or differs
	Reason string
}

// Bounds on programs.
const (
	maxWords = 64
	maxKnown = 256
	maxNeeds = 64
)

// rawProgram is the part of the agent's keys that is about another program.
type rawProgram struct {
	program Program
	at      *node // of the command; nil: there is none
	keys    []*node
}

var wordList = listOf("words", str("a word", maxSummary), 1, maxWords)

var probeObject = object[Probe]{
	what: "the probe",
	fields: []field[Probe]{
		put("command", "What to run, again and again.", wordList,
			func(p *Probe, v []string) { p.Command = v }).must(),
		put("says", "The text that it has to print; {packets} is the number of packets that have "+
			"passed.", str("a text", maxSummary), func(p *Probe, v string) { p.Says = v }).must(),
	},
}

// programText is a field of the program that is a text.
func programText(name, doc string, to func(*Program) *string) field[rawAgent] {
	return put(name, doc, keepPlace(str("a text", maxSummary)), func(a *rawAgent, v placed[string]) {
		*to(&a.program.program) = v.v
		a.program.keys = append(a.program.keys, v.at)
	})
}

// programFields are the agent's keys that put another program in its place.
var programFields = []field[rawAgent]{
	put("command", "Runs another program in the place of weir's agent, in the namespace of the "+
		"watched host. {weir} is weir itself, {dir} a folder of the run's own.", keepPlace(wordList),
		func(a *rawAgent, v placed[[]string]) {
			a.program.program.Command, a.program.at = v.v, v.at
		}),
	programText("flows", "The file of JSON lines that the program writes, below {dir}.",
		func(p *Program) *string { return &p.Flows }),
	programText("map", "The file that says what the program calls our terms, relative to the scenario.",
		func(p *Program) *string { return &p.Map }),
	programText("ready", "The text in the program's log by which it says that it watches.",
		func(p *Program) *string { return &p.Ready }),
	put("settled", "What tells that the program has taken in all packets.", keepPlace(probeObject.value()),
		func(a *rawAgent, v placed[Probe]) {
			a.program.program.Settled = &v.v
			a.program.keys = append(a.program.keys, v.at)
		}),
	put("needs", "Other programs, by their names, and files, by absolute paths, that the commands need: virtual "+
		"machines get them from the host.", keepPlace(listOf("programs and files", neededValue, 1, maxNeeds)),
		func(a *rawAgent, v placed[[]string]) {
			a.program.program.Needs = v.v
			a.program.keys = append(a.program.keys, v.at)
		}),
}

// neededValue is found in a virtual machine by the same name: there is no working folder.
var neededValue = match("a program's name or an absolute path", "softflowctl", `^(/.+|[^/]+)$`,
	func(s string) (string, error) { return s, nil })

var knownObject = object[Known]{
	what: "a known difference",
	fields: []field[Known]{
		put("flow", `The flow, as the difference names it: "client:40000 > server:80 tcp".`,
			str("a flow", maxSummary), func(k *Known, v string) { k.Flow = v }).must(),
		put("kind", "What is wrong with it.", choice("missing", "extra", "differs"),
			func(k *Known, v string) { k.Kind = v }).must(),
		put("reason", "Why, in one sentence.", str("a sentence", maxSummary),
			func(k *Known, v string) { k.Reason = v }).must(),
	},
}

// noGolden is wrong with what is about a golden file, in a scenario with another program.
const noGolden = "another program is judged by the model, not by a golden file"

// program checks the keys of another program, and that the scenario asks nothing of it that only
// weir's own agent can do.
func (r *resolver) program() {
	raw := r.raw.agent.program
	if raw.at == nil {
		for _, at := range raw.keys {
			r.add(at, "is about another program, and there is no command", "add command: [...]")
		}
		if len(r.raw.expect.Known) > 0 {
			r.add(r.raw.expect.knownAt, "is about another program, and the agent has no command", "")
		}
		return
	}
	p := raw.program
	for _, need := range []struct{ key, value string }{{"flows", p.Flows}, {"map", p.Map}, {"ready", p.Ready}} {
		if need.value == "" {
			r.add(raw.at, fmt.Sprintf("a program needs the key %q as well", need.key), "")
		}
	}
	if p.Flows != "" && (path.IsAbs(p.Flows) || strings.HasPrefix(path.Clean(p.Flows), "..")) {
		r.add(raw.at, fmt.Sprintf("flows: %q is not below {dir}", p.Flows), "write flows.jsonl")
	}
	if r.raw.expect.goldenAt != nil {
		r.add(r.raw.expect.goldenAt, noGolden, "leave it out")
	}
	if c := r.raw.cluster; c.v != nil {
		r.add(c.at, "another program is told of no cluster", "leave the cluster out")
	}
	for _, on := range r.raw.agent.on[min(1, len(r.raw.agent.on)):] {
		if on.v.Host != r.raw.agent.on[0].v.Host {
			r.add(on.at, "a program watches interfaces of one host", "")
		}
	}
	for _, s := range r.raw.steps {
		if s.step.Advance > 0 || s.step.Agent != "" {
			r.add(s.at, "another program knows no such step", "it has a clock and a life of its own")
		}
	}
	r.scenario.Agent.Program = &p
}
