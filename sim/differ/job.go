package differ

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

// What a plan of scenarios calls the differ's jobs.
const (
	vectorPrefix = "vectors/"
	fuzzPrefix   = "fuzz/"
)

// A guest's fuzzing: emulated, a packet costs fifty times what it does on the host.
const (
	guestSeeds   = 1
	guestPackets = 3000
)

// Jobs are the differ's part of a plan whose names match; nil matches all. Each file of vectors
// is a job, and so is each seed to fuzz with. The name says all: the data is in the program.
func Jobs(match *regexp.Regexp) []runner.Job {
	var jobs []runner.Job
	add := func(name string) {
		if match == nil || match.MatchString(name) {
			jobs = append(jobs, runner.Job{Name: name})
		}
	}
	for seed := 1; seed <= guestSeeds; seed++ {
		add(fmt.Sprintf("%s%d", fuzzPrefix, seed))
	}
	for _, name := range vectorNames() {
		add(vectorPrefix + name)
	}
	return jobs
}

// IsJob tells whether a job is the differ's.
func IsJob(job runner.Job) bool {
	return strings.HasPrefix(job.Name, vectorPrefix) || strings.HasPrefix(job.Name, fuzzPrefix)
}

// Run carries out a job. It does not return an error: whatever happens is the verdict.
func (d *Differ) Run(ctx context.Context, job runner.Job) result.Scenario {
	start := time.Now()
	out := result.Scenario{Name: job.Name}
	run := d.runVectors
	if strings.HasPrefix(job.Name, fuzzPrefix) {
		run = d.runFuzz
	}
	if err := run(ctx, job, &out); err != nil {
		out.Verdict, out.Reason = result.Error, err.Error()
		if errors.Is(err, ebpf.ErrNotSupported) {
			out.Verdict = result.Skip
		}
	}
	out.Millis = time.Since(start).Milliseconds()
	return out
}

func (d *Differ) runVectors(_ context.Context, job runner.Job, out *result.Scenario) error {
	data, err := vectorData(strings.TrimPrefix(job.Name, vectorPrefix))
	if err != nil {
		return err
	}
	f, err := ParseVectors(job.Name, data)
	if err != nil {
		return err
	}
	out.Summary = fmt.Sprintf("%d packet vectors", len(f.Vectors))
	for i := range f.Vectors {
		out.Packets += uint64(f.Vectors[i].Case.packets())
	}
	if out.Differences, _, err = d.Judge(f); err != nil {
		return err
	}
	out.Verdict = result.Pass
	if n := len(out.Differences); n > 0 {
		out.Verdict = result.Fail
		out.Reason = fmt.Sprintf("%d of %d vectors differ", n, len(f.Vectors))
	}
	return nil
}

func (d *Differ) runFuzz(ctx context.Context, job runner.Job, out *result.Scenario) error {
	f := Fuzz{Packets: guestPackets}
	if _, err := fmt.Sscanf(job.Name, fuzzPrefix+"%d", &f.Seed); err != nil {
		return fmt.Errorf("read the seed in the name %q: %w", job.Name, err)
	}
	var err error
	if f.Corpus, err = Corpus(); err != nil {
		return err
	}
	out.Summary = fmt.Sprintf("%d random packets, the datapath beside the model", f.Packets)
	found, packets, err := f.Run(ctx, d)
	if err != nil {
		return err
	}
	out.Verdict, out.Packets = result.Pass, uint64(packets)
	if found != nil {
		out.Verdict = result.Fail
		out.Reason = fmt.Sprintf("case %d of seed %d differs", found.Number, found.Seed)
		out.Differences = []result.Difference{found.difference()}
		out.AgentLog = string(found.Vector())
	}
	return nil
}

// difference is the finding as reports show it.
func (f *Finding) difference() result.Difference {
	diff := result.Difference{Section: "fuzz", Against: "model", Kind: "differs",
		Record: fmt.Sprintf("case %d of seed %d", f.Number, f.Seed)}
	for _, line := range f.Diff {
		field := result.Field{Name: "the model says", Want: line[2:]}
		if line[0] == '+' {
			field = result.Field{Name: "the datapath says", Got: line[2:]}
		}
		diff.Fields = append(diff.Fields, field)
	}
	return diff
}
