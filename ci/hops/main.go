// Command hops writes the table of what a hop of a chain costs into a page of the documentation: from what `weir bench -o
// json` has measured on this machine, which it reads, and from what was counted on each kernel.
//
//	out/weir bench --run '^hop/' -o json | go run ./ci/hops vmtests/costs.yaml docs/chains.md
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/weirnet/weir/bpf/bench"
	"github.com/weirnet/weir/vmtests/cost"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: hops COSTS PAGE <MEASURED")
		os.Exit(2)
	}
	if err := write(os.Stdin, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "hops:", err)
		os.Exit(1)
	}
}

func write(measured io.Reader, costs, page string) error {
	var r bench.Result
	if err := json.NewDecoder(measured).Decode(&r); err != nil {
		return fmt.Errorf("read what was measured: %w", err)
	}
	counted, err := cost.Read(costs)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	with, err := insert(string(text), table(&r, counted))
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(with), 0o644)
}

// The lines between which the table is.
const begin, end = "<!-- Written by make hops; do not edit. -->\n", "<!-- The end of what make hops writes. -->\n"

// insert replaces what is between the lines.
func insert(page, text string) (string, error) {
	before, rest, found := strings.Cut(page, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", fmt.Errorf("want the lines %q and %q", begin, end)
	}
	return before + begin + text + end + after, nil
}

// prefix is that of the names of hops.
const prefix = "hop/"

// table has a row for each backend: ns by the number of members, and instructions by kernel.
func table(r *bench.Result, counted cost.Baseline) string {
	var lengths []string
	ns := map[string]map[string]string{}
	for _, f := range r.Figures {
		way, length, ok := strings.Cut(strings.TrimPrefix(f.Name, prefix), "/")
		if !ok || !strings.HasPrefix(f.Name, prefix) {
			continue
		}
		if !slices.Contains(lengths, length) {
			lengths = append(lengths, length)
		}
		if ns[way] == nil {
			ns[way] = map[string]string{}
		}
		ns[way][length] = "not here"
		if f.Ours != nil {
			ns[way][length] = fmt.Sprintf("%.1f", f.Ours.Median)
		}
	}
	kernels := slices.SortedFunc(maps.Keys(counted), byNumber)
	var b strings.Builder
	b.WriteString("| backend |")
	for _, l := range lengths {
		fmt.Fprintf(&b, " ns, of %s members |", l)
	}
	for _, k := range kernels {
		fmt.Fprintf(&b, " %s |", k)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(lengths)+len(kernels)) + "\n")
	for _, way := range slices.Sorted(maps.Keys(ns)) {
		fmt.Fprintf(&b, "| `%s` |", way)
		for _, l := range lengths {
			fmt.Fprintf(&b, " %s |", ns[way][l])
		}
		for _, k := range kernels {
			text := ""
			if n, ok := counted[k].Instructions[prefix+way]; ok {
				text = fmt.Sprintf("%.0f", n)
			}
			fmt.Fprintf(&b, " %s |", text)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nns: %s, Linux %s, the median of %d rounds. The others: instructions of the machine, by kernel.\n",
		r.Machine.CPU, r.Machine.Kernel, r.Rounds)
	return b.String()
}

// byNumber orders 5.10 behind 5.4.
func byNumber(a, b string) int {
	var v, w [2]int
	fmt.Sscanf(a, "%d.%d", &v[0], &v[1])
	fmt.Sscanf(b, "%d.%d", &w[0], &w[1])
	return slices.Compare(v[:], w[:])
}
