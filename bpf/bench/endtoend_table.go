package bench

import (
	"bytes"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

const endToEndMethod = `
packets/s   received by the far end of a pair of interfaces, while one thread on one CPU sends on the near end as
            fast as it can, past the queueing discipline; the kernel delivers, and observes, within that thread
CPU         ns per packet: of the observer's process, until it has read all; and of that and the sender together
added       CPU of both, less that of the same without an observer, round by round; and how many times weir's
told        packets in what the observer has told, of those received in all rounds
`

// Write prints the comparison as a table.
func (r *EndToEnd) Write(w io.Writer) error {
	var out bytes.Buffer
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "observer\tpackets/s\tratio\town CPU\tall CPU\tadded\tof weir's\ttold\twhat")
	var nobody, weir ObserverCost
	for i, o := range r.Observers {
		switch {
		case i == 0:
			nobody = o
		case i == 1:
			weir = o
		}
		if o.Missing != "" {
			fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t-\t-\t%s (%s)\n", o.Name, o.What, o.Missing)
			continue
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.2f\t%.0f\t%.0f\t%s\t%s\n", o.Name, o.Rate, o.Rate/nobody.Rate, o.Own, o.All,
			o.besides(i > 0, weir.Added), o.What)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	m := r.Machine
	fmt.Fprintf(&out, "\n%s, %d CPUs; Linux %s; %s\n%d UDP flows in turn, frames of %d bytes; the median of %d rounds of %s\n",
		m.CPU, m.CPUs, m.Kernel, r.Time.Format(time.DateTime+" MST"), r.Flows, len(udp4().frame), r.Rounds, r.RoundNS)
	out.WriteString(endToEndMethod)
	_, err := w.Write(out.Bytes())
	return err
}

// besides is what is told of observers only.
func (c *ObserverCost) besides(observes bool, weir float64) string {
	if !observes {
		return "-\t-\t-"
	}
	return fmt.Sprintf("%.0f\t%.2f\t%s", c.Added, c.Added/weir, c.exact())
}

// exact tells whether every packet was told of.
func (c *ObserverCost) exact() string {
	if c.Told == c.Received {
		return "exact"
	}
	return fmt.Sprintf("%.2f %%", 100*float64(c.Told)/float64(c.Received))
}
