package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// Machine is where the figures come from. They mean little without it.
type Machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Used   []int  `json:"used"` // the CPUs that packets were sent on
	Kernel string `json:"kernel"`
	// Siblings tells that the CPUs used are threads of one core.
	Siblings bool `json:"siblings"`
}

func thisMachine(used []int, siblings bool) Machine {
	m := Machine{CPU: "unknown CPU", CPUs: runtime.NumCPU(), Used: used, Siblings: siblings}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // a name only
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// Write prints the result as a table.
func (r *Result) Write(w io.Writer) error {
	var out bytes.Buffer
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "name\tours\tpeer\tratio\tunit\twhat")
	for _, f := range r.Figures {
		ratio := "-"
		if f.Ratio != 0 {
			ratio = fmt.Sprintf("%.2f", f.Ratio)
		}
		what := f.What
		for _, more := range []string{f.Missing, f.Note} {
			if more != "" {
				what += " (" + more + ")"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, text(f.Ours), text(f.Peer), ratio, f.Unit, what)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	r.footer(&out)
	_, err := w.Write(out.Bytes())
	return err
}

func text(v *Value) string {
	if v == nil {
		return "-"
	}
	if v.Median < 10 {
		return fmt.Sprintf("%.1f", v.Median)
	}
	return fmt.Sprintf("%.0f", v.Median)
}

const method = `
ns/packet   BPF_PROG_TEST_RUN of the program behind a hook, an empty program subtracted round by round.
            Many flows: a driver rewrites source address and port and jumps; the same driver before
            the empty program is subtracted. Flows come in an order unrelated to that of their opening.
ns/entry    CPU time of the agent's sweep over the entries of a full table. Writing records is left out, but for
            export/...: there all entries have new packets, and one record of each is encoded and taken by the sink.
            The peer's: going through the keys, and taking each entry by a system call, as its agent does.
            collect: the peer is another map, of which user space reads all in batches and deletes what has
            expired key by key. It counts nothing and tells nobody; the sweep makes a last record of each.
us          CPU time of the longest read in such sweeps: the kernel cannot pause in it.
ns/exchange What tracing adds: the time of packets through the kernel's stack, sockets and system calls
            included, less that of the same without the feature, round by round.
ns/hop      What a member more adds to a chain: the time of packets through a chain of members that do nothing, less that
            of one of its last member, which drops them, over the number of hops.
bytes/flow  memlock of the maps that hold the flows (fdinfo), over their flows.
`

func (r *Result) footer(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "\n%s, %d CPUs, of which %v send packets", m.CPU, m.CPUs, m.Used)
	if m.Siblings {
		fmt.Fprint(w, " (threads of one core)")
	}
	fmt.Fprintf(w, "; Linux %s\n", m.Kernel)
	fmt.Fprintf(w, "tables of %d entries; %d packets a round or more; the median of %d rounds (fewer of"+
		" what takes long),\nin which the empty program, ours and the peer's take turns\n",
		r.Table, r.Repeat, r.Rounds)
	if r.Peer != "" {
		fmt.Fprintf(w, "peer: %s, its hash maps as large as our tables\n", r.Peer)
	}
	fmt.Fprint(w, method)
}
