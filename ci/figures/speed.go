package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/weirnet/weir/bpf/bench"
	"github.com/weirnet/weir/sim/result"
)

// speedBars judge one run of `weir bench`. Ratios are to the peer's program in the same run.
var speedBars = []bar{
	ratio("tcp4-hot", "tcp4/hot", 0.50, "a packet of one TCP connection over IPv4"),
	ratio("tcp6-hot", "tcp6/hot", 0.65, "a packet of one TCP connection over IPv6"),
	ratio("tcp4-8000", "tcp4/8000", 0.60, "a packet of one of 8 000 connections"),
	ratio("tcp4-131000", "tcp4/131000", 0.60, "a packet of one of 131 000 connections"),
	ratio("two-cpus", "tcp4/2cpu-one", 0.25, "two CPUs on one connection"),
	{"tcp4-new", "<= 2.50x", "a new connection, over an existing one of as many", always, (*meter).newConnection},
	within("table-full", "tcp4/full", "tcp4/room", 1.2,
		"twice the connections that a table has room for, over the same packets where there is room"),
	most("sampled-out", "sampled-out", 10, "a packet that is not in the sample"),
	most("chain-hop", "hop/xdp-link/8", 2, "a packet that goes on from one member of a chain to the next, by a tail call"),
	most("memory", "memory/conn4", 260, "kernel memory of an IPv4 connection, all told"),
	ratio("sweep-changed", "sweep/100000/changed-100", 0.125,
		"a sweep of entries that have all changed; the peer's are taken key by key"),
	most("sweep-expired", "sweep/100000/expired-50", 400, "a sweep of entries half of which have expired"),
	within("sweep-growth", "sweep/1000000/changed-100", "sweep/100000/changed-100", 1.5,
		"sweeping an entry of 1 000 000, over one of 100 000"),
	most("sweep-slice", "sweep/1000000/slice", 2000, "no pause in a sweep of 1 000 000 entries"),
	most("export-proto", "export/100000/protobuf", 1000, "from the table's entry to an encoded protobuf message, kernel included"),
	most("export-allocs", "export/100000/allocs", 50, "allocations for a thousand of them"),
	most("export-file", "export/1000000/file", 1500, "from the table's entry to a line in a file: 1.5 s for 1 000 000"),
	most("agent-memory", "export/1000000/resident", 60+200, "resident memory but for the tables: 60 MB and 200 bytes for each of 1 000 000"),
	{"verifier", "<= 10000", "instructions that the verifier walks for the largest program",
		always, (*meter).verifier},
	{"load", "<= 50 ms", "loading the datapath", always, (*meter).load},
}

// peerHot is what the peer took for a packet of one connection, in ns, on the machine for which the bars in ns
// and ms were set.
const peerHot = 90

// asThere tells what a time would be on the machine for which its bar was set, if the peer says how fast this one is.
func (m *meter) asThere(ctx context.Context, took float64) string {
	f, bad := m.speedOf(ctx, "tcp4/hot")
	if bad != nil || f.Peer == nil {
		return ""
	}
	return fmt.Sprintf("; %.0f where the peer's hot packet takes %d ns, not %.0f as here",
		took*peerHot/f.Peer.Median, peerHot, f.Peer.Median)
}

// ratio is a bar on our figure over the peer's.
func ratio(name, of string, limit float64, what string) bar {
	return bar{name, fmt.Sprintf("<= %.3gx", limit), what + ", over the peer's", always,
		func(m *meter, ctx context.Context) figure {
			f, bad := m.speedOf(ctx, of)
			switch {
			case bad != nil:
				return *bad
			case f.Peer == nil:
				return notMeasured("needs the peer's compiled object: --object FILE --program NAME")
			case f.Note != "":
				return notMeasured("%s", f.Note)
			}
			return below(f.Ratio, limit, "x", fmt.Sprintf("%.0f over %.0f %s", f.Ours.Median, f.Peer.Median, f.Unit))
		}}
}

// within is a bar on one of our figures over another one.
func within(name, of, base string, limit float64, what string) bar {
	return bar{name, fmt.Sprintf("<= %.2fx", limit), what, always,
		func(m *meter, ctx context.Context) figure {
			f, bad := m.speedOf(ctx, of)
			if bad != nil {
				return *bad
			}
			b, bad := m.speedOf(ctx, base)
			if bad != nil {
				return *bad
			}
			return below(f.Ours.Median/b.Ours.Median, limit, "x",
				fmt.Sprintf("%.0f over %.0f %s", f.Ours.Median, b.Ours.Median, f.Unit))
		}}
}

// most is a bar on one of our figures.
func most(name, of string, limit float64, what string) bar {
	return bar{name, fmt.Sprintf("<= %.0f", limit), what, always,
		func(m *meter, ctx context.Context) figure {
			f, bad := m.speedOf(ctx, of)
			if bad != nil {
				return *bad
			}
			note := f.Unit
			if strings.HasPrefix(f.Unit, "ns/") || f.Unit == bench.Micros {
				note += m.asThere(ctx, f.Ours.Median)
			}
			return below(f.Ours.Median, limit, "", note)
		}}
}

// newConnection is within a bar, and says how much of it no datapath with such a table can save.
func (m *meter) newConnection(ctx context.Context) figure {
	f := within("", "tcp4/new", "tcp4/90000", 2.5, "").measure(m, ctx)
	if floor, bad := m.speedOf(ctx, "tcp4/insert"); bad == nil && f.verdict != unknown {
		f.note += fmt.Sprintf("; inserting an empty entry takes %.0f", floor.Ours.Median)
	}
	return f
}

// below judges a number.
func below(got, limit float64, unit, note string) figure {
	f := figure{text: fmt.Sprintf("%.2f%s", got, unit), verdict: holds, note: note}
	switch {
	case unit == "" && got < 10:
		f.text = fmt.Sprintf("%.1f", got)
	case unit == "":
		f.text = fmt.Sprintf("%.0f", got)
	}
	if got > limit {
		f.verdict = short
	}
	return f
}

func (m *meter) verifier(ctx context.Context) figure {
	r, err := m.bench(ctx)
	if err != nil {
		return notMeasured("%v", err)
	}
	largest, name := 0, ""
	for program, n := range r.Programs {
		if n > largest {
			largest, name = n, program
		}
	}
	return below(float64(largest), 10_000, "", "instructions for "+name)
}

func (m *meter) load(ctx context.Context) figure {
	r, err := m.bench(ctx)
	if err != nil {
		return notMeasured("%v", err)
	}
	return below(r.LoadMS, 50, "", "ms for all programs and maps, the median"+m.asThere(ctx, r.LoadMS))
}

// speedOf returns a figure of `weir bench`, or why there is none.
func (m *meter) speedOf(ctx context.Context, name string) (bench.Figure, *figure) {
	r, err := m.bench(ctx)
	if err != nil {
		f := notMeasured("%v", err)
		return bench.Figure{}, &f
	}
	f, ok := r.Find(name)
	if !ok || f.Ours == nil {
		why := notMeasured("weir bench does not give %s %s", name, f.Missing)
		return f, &why
	}
	return f, nil
}

// bench runs `weir bench` once for all bars.
func (m *meter) bench(ctx context.Context) (bench.Result, error) {
	if m.speed.done {
		return m.speed.result, m.speed.err
	}
	m.speed.done = true
	m.speed.result, m.speed.err = m.runBench(ctx)
	return m.speed.result, m.speed.err
}

func (m *meter) runBench(ctx context.Context) (r bench.Result, err error) {
	if os.Getuid() != 0 {
		return r, fmt.Errorf("loading programs needs root")
	}
	args := []string{"bench", "-o", "json"}
	if m.object != "" {
		args = append(args, "--object", m.object, "--program", m.program)
	}
	o := m.weir(ctx, nil, args...)
	if o.code != result.ExitGood {
		return r, fmt.Errorf("weir bench ended with %s", o)
	}
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		return r, fmt.Errorf("read what weir bench has printed: %w", err)
	}
	return r, nil
}

// benched holds the one run of `weir bench`.
type benched struct {
	done   bool
	result bench.Result
	err    error
}
