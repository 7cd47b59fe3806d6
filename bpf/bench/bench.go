// Package bench is `weir bench`: it measures what the datapath costs, in ns per packet and per
// entry of the table and in bytes of kernel memory, and what the program of any other compiled
// object costs with the same packets in the same run.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
)

// ErrRoot is returned by Run when the process may not load programs.
var ErrRoot = errors.New("loading eBPF programs needs root")

// Options say what is measured. The zero value measures everything, for about a minute.
type Options struct {
	Rounds int   // rounds of each case; 0 means 15
	Repeat int   // packets in a round, at least; 0 means 20000
	Table  int   // entries of each connection table; 0 means 131072
	Flows  []int // numbers of flows; nil means 8000, 90000, 131000
	Sweep  []int // numbers of entries to sweep; nil means 10000, 100000, 1000000
	// Collect are numbers of entries of which half are collected; nil means 524288.
	Collect []int
	// Match selects figures by name; nil means all.
	Match *regexp.Regexp
	Peer  *Peer // nil: nothing to compare with
	// Progress is told what comes next; nil: nobody.
	Progress io.Writer
}

func (o *Options) fill() {
	if o.Rounds == 0 {
		o.Rounds = 15
	}
	if o.Repeat == 0 {
		o.Repeat = 20000
	}
	if o.Table == 0 {
		o.Table = 131072
	}
	if o.Flows == nil {
		o.Flows = []int{8000, 90000, 131000}
	}
	if o.Sweep == nil {
		o.Sweep = []int{10000, 100000, 1000000}
	}
	if o.Collect == nil {
		o.Collect = []int{524288}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
}

// Result is all that was measured, and where.
type Result struct {
	Machine Machine  `json:"machine"`
	Rounds  int      `json:"rounds"`
	Repeat  int      `json:"repeat"` // packets in a round, at least
	Table   int      `json:"table"`  // entries
	Peer    string   `json:"peer,omitempty"`
	Figures []Figure `json:"figures"`
	// Programs is how many instructions the verifier walked for each of our programs.
	Programs map[string]int `json:"programs"`
	LoadMS   float64        `json:"load_ms"` // to load all of them, maps included; the median
}

// Find returns the figure of a name, and whether there is one.
func (r *Result) Find(name string) (Figure, bool) {
	for _, f := range r.Figures {
		if f.Name == name {
			return f, true
		}
	}
	return Figure{}, false
}

// bench is a run.
type bench struct {
	opts    Options
	workers []*worker // one for each of up to two CPUs
}

// wants tells whether a figure was chosen.
func (b *bench) wants(name string) bool {
	return b.opts.Match == nil || b.opts.Match.MatchString(name)
}

// part is a part of the run. It gives those of its figures that are wanted.
type part struct {
	title   string
	names   []string
	measure func(context.Context) ([]Figure, error)
}

// Run measures. It needs root, and a machine that does little else.
func Run(ctx context.Context, opts Options) (Result, error) {
	opts.fill()
	if os.Geteuid() != 0 {
		return Result{}, ErrRoot
	}
	cpus, siblings, err := pickCPUs()
	if err != nil {
		return Result{}, err
	}
	b := &bench{opts: opts}
	if b.workers, err = newWorkers(cpus); err != nil {
		return Result{}, err
	}
	defer stop(b.workers)
	r := Result{Machine: thisMachine(cpus, siblings), Rounds: opts.Rounds, Repeat: opts.Repeat,
		Table: opts.Table}
	if opts.Peer != nil {
		r.Peer = opts.Peer.String()
	}
	if r.Programs, r.LoadMS, err = loading(); err != nil {
		return r, err
	}
	for _, p := range b.parts() {
		if !slices.ContainsFunc(p.names, b.wants) {
			continue
		}
		fmt.Fprintln(opts.Progress, "measuring", p.title)
		fs, err := p.measure(ctx)
		if err != nil {
			return r, fmt.Errorf("%s: %w", p.title, err)
		}
		r.Figures = append(r.Figures, fs...)
	}
	return r, nil
}

func (b *bench) parts() (all []part) {
	for _, c := range slices.Concat(b.packetCases(), besideCases()) {
		all = append(all, part{c.name, []string{c.name}, func(ctx context.Context) ([]Figure, error) {
			f, err := b.packets(ctx, &c)
			return []Figure{f}, err
		}})
	}
	for _, n := range b.opts.Sweep {
		p := part{title: fmt.Sprintf("sweep/%d", n)}
		p.measure = func(ctx context.Context) ([]Figure, error) { return b.sweeps(ctx, n) }
		for _, c := range sweepCases {
			p.names = append(p.names, sweepName(n, &c))
		}
		p.names = append(p.names, sliceFigure(n).Name)
		all = append(all, p)
	}
	for _, n := range b.opts.Collect {
		p := part{title: fmt.Sprintf("collect/%d", n)}
		p.measure = func(ctx context.Context) ([]Figure, error) { return b.collections(ctx, n) }
		for i := range usualWays {
			p.names = append(p.names, collectName(n, &usualWays[i]))
		}
		all = append(all, p)
	}
	for _, n := range b.opts.Sweep {
		all = append(all, part{fmt.Sprintf("export/%d", n), exportNames(n), func(ctx context.Context) ([]Figure, error) {
			return b.exports(ctx, n)
		}})
	}
	for _, c := range socketCases {
		all = append(all, part{c.name, []string{c.name}, func(ctx context.Context) ([]Figure, error) {
			f, err := b.sockets(ctx, &c)
			return []Figure{f}, err
		}})
	}
	for _, c := range hopCases() {
		all = append(all, part{c.name(), []string{c.name()}, func(ctx context.Context) ([]Figure, error) {
			f, err := b.hops(ctx, &c)
			return []Figure{f}, err
		}})
	}
	m := b.memoryCase()
	return append(all, part{m.name, []string{m.name}, func(context.Context) ([]Figure, error) {
		return b.memory()
	}})
}
