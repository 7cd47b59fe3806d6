package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/file"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/flow"
)

// protobuf is a sink that encodes records as the gRPC sink does, and has an idle receiver.
type protobuf struct{}

func (protobuf) Format() string { return "bench" }

func (protobuf) Append(b []byte, r flow.Report, offset int64) []byte {
	return pbflow.Append(b, r, offset)
}

func (protobuf) Send(context.Context, []byte, int) error { return nil }

func (protobuf) Close() error { return nil }

// exportNames are the figures of exporting so many entries.
func exportNames(entries int) []string {
	n := strconv.Itoa(entries)
	return []string{"export/" + n + "/protobuf", "export/" + n + "/allocs", "export/" + n + "/file", "export/" + n + "/resident"}
}

// exports measures what it takes from an entry of the table to a record that is encoded, or in a file: sweeps
// in which every entry has new packets, all that the agent does included; and the memory in which it does so.
func (b *bench) exports(ctx context.Context, entries int) (fs []Figure, err error) {
	name := exportNames(entries)
	fs = []Figure{
		{Name: name[0], Unit: PerEntry, What: "from the table's entry to an encoded protobuf message, acknowledged"},
		{Name: name[1], Unit: PerThousand, What: "allocations for that"},
		{Name: name[2], Unit: PerEntry, What: "from the table's entry to a line of a JSON file, acknowledged"},
		{Name: name[3], Unit: Resident, What: "resident memory of this process, with an agent that has done so, but for the tables"},
	}
	if ok, err := b.fits(entries); !ok || err != nil {
		for i := range fs {
			fs[i].Missing = "needs more memory than is free"
		}
		return fs, err
	}
	s, err := b.newSweeping(entries)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if fs[0].Ours, fs[1].Ours, err = s.exporting(ctx, protobuf{}); err != nil {
		return nil, fmt.Errorf("%s: %w", name[0], err)
	}
	if fs[2].Ours, err = s.exportingFile(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name[2], err)
	}
	fs[3].Ours, err = resident()
	return fs, err
}

// exportingFile measures with a file that is removed afterwards.
func (s *sweeping) exportingFile(ctx context.Context) (*Value, error) {
	dir, err := os.MkdirTemp("", "weir-bench-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	sink, err := file.Open(file.Options{Path: filepath.Join(dir, "flows.jsonl"), MaxSize: 1 << 30})
	if err != nil {
		return nil, err
	}
	ns, _, err := s.exporting(ctx, sink)
	return ns, err
}

// exporting measures sweeps that report all entries to a sink, and how much is allocated for a thousand of them.
// It closes the sink.
func (s *sweeping) exporting(ctx context.Context, sink export.Sink) (ns, allocs *Value, err error) {
	e, err := export.New([]export.Options{{Name: "bench", Sink: sink, Queue: 64 << 20, Batch: 2000, Deadline: time.Minute,
		Retry: export.Retry{Min: time.Second, Max: time.Second}, Through: true}},
		func() int64 { return 0 }, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	s.sink.to = e
	var took, made []float64
	for range s.b.sweepRounds(s.entries) + 1 {
		var before, after runtime.MemStats
		if err = ctx.Err(); err == nil {
			err = s.send(s.entries)
		}
		if err != nil {
			break
		}
		runtime.ReadMemStats(&before)
		var t time.Duration
		if t, err = s.sweep(s.active, s.entries); err != nil {
			break
		}
		runtime.ReadMemStats(&after)
		took = append(took, float64(t)/float64(s.entries))
		made = append(made, 1000*float64(after.Mallocs-before.Mallocs)/float64(s.entries))
	}
	s.sink.to = nil
	stats := e.Stats()[0]
	if err = errors.Join(err, e.Close(ctx)); err != nil {
		return nil, nil, err
	}
	if len(stats.Dropped) > 0 || stats.Held.Records > 0 {
		return nil, nil, fmt.Errorf("records were not sent: %+v", stats)
	}
	// The first round makes what the others use again.
	took, made = took[1:], made[1:]
	return netOf(took, make([]float64, len(took))), netOf(made, make([]float64, len(made))), nil
}

// bpfMaps is what the kernel calls the memory of maps in a process's list of mappings.
const bpfMaps = "anon_inode:bpf-map"

// resident reads how much memory of this process is there, in MB (proc_pid_smaps(5)). Maps that are mapped into it
// are left aside: they are the kernel's memory, as other figures have it.
func resident() (*Value, error) {
	debug.FreeOSMemory()
	list, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	var sum float64
	aside := false
	for line := range strings.Lines(string(list)) {
		words := strings.Fields(line)
		switch {
		case !strings.HasSuffix(words[0], ":"): // a mapping begins
			aside = words[len(words)-1] == bpfMaps
		case words[0] == "Rss:" && !aside:
			kib, err := strconv.ParseFloat(words[1], 64)
			if err != nil {
				return nil, fmt.Errorf("read /proc/self/smaps: %w", err)
			}
			sum += kib * 1024 / 1e6
		}
	}
	return &Value{Median: sum, Best: sum}, nil
}
