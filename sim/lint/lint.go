// Package lint finds what is wrong or suspicious in scenarios without running them.
//
// An error makes a scenario impossible to run. A warning is about one that runs, and that
// probably does not show what its author wanted: a step that no hook can see, a host that takes
// no part. Warnings are given only where the topology alone decides; where the kernel has a say
// (real sockets, hosts with a stack), there are none.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/reach"
	"github.com/weirnet/weir/sim/runner"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/suite"
	"github.com/weirnet/weir/sim/traffic"
)

// The levels of problems.
const (
	Error   = "error"
	Warning = "warning"
)

// Problem is one thing to mend, with its place.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`   // from 1; absent: the file as a whole
	Column int    `json:"column,omitempty"` // from 1, in characters
	Level  string `json:"level"`            // error or warning
	Key    string `json:"key,omitempty"`    // the offending key of the file
	Text   string `json:"text"`             // what is wrong
	Hint   string `json:"hint,omitempty"`   // what would be right
}

// String is "file:line:column: key: text; hint", with the level in front of a warning's text.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	if p.Level == Warning {
		b.WriteString(": warning")
	}
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	b.WriteString(": " + p.Text)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Check looks at scenarios and at the golden files beside them. The problems are in the order of
// files and lines. The error is about what cannot be read at all.
func Check(jobs []runner.Job) ([]Problem, error) {
	var all []Problem
	broken := map[string]bool{}
	for _, j := range jobs {
		if broken[j.File] {
			continue // its other variants have the same mistakes
		}
		found, ok := scenario(j)
		all, broken[j.File] = append(all, found...), !ok
	}
	orphans, err := suite.Orphans(jobs)
	for _, file := range orphans {
		all = append(all, Problem{File: file, Level: Warning, Text: "no scenario has this golden file",
			Hint: "weir sim golden clean removes it"})
	}
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(all), err // variants of one scenario have most in common
}

// scenario checks one scenario and its golden file; ok tells that it can be read.
func scenario(job runner.Job) (found []Problem, ok bool) {
	sc, err := job.Scenario()
	if err != nil {
		return mistakes(job.File, err), false
	}
	c := &checker{job: job, sc: sc, passed: map[spec.Port]bool{}, known: true,
		builder: traffic.NewBuilder(&sc.Topology), reach: reach.New(&sc.Topology)}
	for i := range sc.Steps {
		c.step(&sc.Steps[i])
	}
	if c.known && len(c.found) == 0 {
		c.idle()
	}
	c.golden()
	return c.found, true
}

// mistakes are the errors of the parser.
func mistakes(file string, err error) []Problem {
	var many spec.Errors
	var one *spec.Error
	switch {
	case errors.As(err, &many):
	case errors.As(err, &one):
		many = spec.Errors{one}
	default:
		return []Problem{{File: file, Level: Error, Text: err.Error()}}
	}
	var all []Problem
	for _, e := range many {
		all = append(all, Problem{File: e.File, Line: e.Line, Column: e.Column, Level: Error,
			Key: e.Key, Text: e.Msg, Hint: e.Hint})
	}
	return all
}

// checker looks at a scenario that parses.
type checker struct {
	job     runner.Job
	sc      *spec.Scenario
	builder *traffic.Builder
	reach   *reach.Map
	passed  map[spec.Port]bool // interfaces that frames pass, or steps change
	known   bool               // all that passes is in passed
	found   []Problem
}

func (c *checker) add(level string, line int, key, text, hint string) {
	c.found = append(c.found, Problem{File: c.job.File, Line: line, Level: level, Key: key,
		Text: text, Hint: hint})
}

// lineOf is the prefix of the traffic's errors, which say their line in words.
var lineOf = regexp.MustCompile(`^line \d+: `)

// step checks that the frames of a step can be made, and that a hook can see one.
func (c *checker) step(s *spec.Step) {
	if err := c.builder.Check(s); err != nil {
		c.add(Error, s.Line, "traffic", lineOf.ReplaceAllString(err.Error(), ""), "")
		return
	}
	if s.Link != nil {
		c.passed[s.Link.Port] = true
	}
	silent := s.Link != nil || s.Host != nil || s.Impair != nil || s.Agent != "" || s.Advance > 0
	frames, seen, complete := 0, false, true
	for f, err := range c.builder.Frames(s) {
		if err != nil {
			break // Check would have said it
		}
		frames++
		w := c.reach.Frame(spec.Port{Host: f.Host, Interface: f.Interface}, f.Data)
		complete = complete && w.Complete && !c.answers(w.Ends)
		for _, h := range w.Hooks {
			p := spec.Port{Host: h.Namespace, Interface: h.Interface}
			c.passed[p] = true
			seen = seen || slices.Contains(c.sc.Agent.On, p)
		}
		if seen && frames >= enough {
			break
		}
	}
	if !silent && (frames == 0 || !complete) {
		c.known = false // by kernels, or by what this package does not know
	}
	drawn := s.Text != "" // from between many hosts: nobody wants each of them seen
	if frames > 0 && complete && !seen && !drawn {
		c.add(Warning, s.Line, "traffic", "no hook can see this step: the agent watches "+
			ports(c.sc.Agent.On)+" only", "watch an interface on the way, or drop the step")
	}
}

// enough frames of one step tell the interfaces that all of them pass.
const enough = 1000

// answers tells whether one of the hosts has a kernel that may send something of its own.
func (c *checker) answers(hosts []string) bool {
	return slices.ContainsFunc(hosts, func(name string) bool {
		h := c.sc.Topology.Host(name)
		return h != nil && h.Stack
	})
}

func ports(all []spec.Port) string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// idle finds hosts and linked interfaces that no frame passes.
func (c *checker) idle() {
	for _, h := range c.sc.Topology.Hosts {
		var idle []spec.Port
		used := slices.ContainsFunc(h.Interfaces, func(i spec.Interface) bool {
			return c.passed[spec.Port{Host: h.Name, Interface: i.Name}]
		})
		for _, l := range c.sc.Topology.Links {
			for _, p := range []spec.Port{l.A, l.B} {
				if p.Host == h.Name && !c.passed[p] {
					idle = append(idle, p)
				}
			}
		}
		if !used {
			c.add(Warning, c.find(h.Name, 0), h.Name, "no frame passes this host", "")
			continue
		}
		for _, p := range idle {
			if !slices.Contains(c.sc.Agent.On, p) { // to watch where nothing passes is a test, too
				c.add(Warning, c.find(p.Interface, c.find(h.Name, 0)), p.Interface,
					fmt.Sprintf("no frame passes %s", p), "")
			}
		}
	}
}

// find is the line, from another on, on which a key stands; 0 if it is not found.
func (c *checker) find(key string, from int) int {
	at := regexp.MustCompile(`(^|[\s{,])` + regexp.QuoteMeta(key) + `:(\s|$)`)
	for i, line := range strings.Split(string(c.job.Spec), "\n") {
		if i+1 >= from && at.MatchString(line) {
			return i + 1
		}
	}
	return 0
}

// golden checks the golden file as far as it can be without a run, or the map that stands for it.
func (c *checker) golden() {
	if c.sc.Agent.Program != nil { // judged against the model alone
		if _, err := spec.ParseFlowMap(c.job.MapFile, c.job.Map); err != nil {
			c.found = append(c.found, mistakes(c.job.MapFile, err)...)
		}
		return
	}
	if len(c.job.Golden) == 0 {
		c.add(Warning, 0, "", "it has no golden file",
			"weir sim golden update "+c.job.Base()+" writes it")
		return
	}
	if _, err := golden.Decode(c.job.GoldenFile, c.job.Golden, c.sc.Expect.Free...); err != nil {
		p := Problem{File: c.job.GoldenFile, Level: Error,
			Text: strings.TrimPrefix(err.Error(), c.job.GoldenFile+": ")}
		if rest, ok := strings.CutPrefix(p.Text, c.job.GoldenFile+":"); ok {
			_, _ = fmt.Sscanf(rest, "%d:%d:", &p.Line, &p.Column) // zero is right when there is none
			p.Text = strings.TrimLeft(rest, "0123456789: ")
		}
		c.found = append(c.found, p)
	}
}
