package monitor

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/bpf"
)

const (
	counter   = prometheus.CounterValue
	gauge     = prometheus.GaugeValue
	histogram = prometheus.UntypedValue // which no metric here is
)

// Metric describes one name.
type Metric struct {
	Name, Help string
	Labels     []string
	kind       prometheus.ValueType
}

// Metrics lists all metrics of the agent's state, in the order in which they are documented.
func Metrics() []Metric {
	return []Metric{
		{"weir_seen_packets_total", "Packets that came to the hooks.", nil, counter},
		{"weir_seen_bytes_total", "Their bytes on the wire.", nil, counter},
		{"weir_accounted_packets_total", "Packets that a connection has counted.", nil, counter},
		{"weir_accounted_bytes_total", "Their bytes.", nil, counter},
		{"weir_observed_packets_total", "Packets that another hook has counted.", nil, counter},
		{"weir_observed_bytes_total", "Their bytes.", nil, counter},
		{"weir_left_out_packets_total", "Packets that the filters or the sample leave out.",
			[]string{"reason"}, counter},
		{"weir_left_out_bytes_total", "Their bytes.", []string{"reason"}, counter},
		{"weir_lost_packets_total", "Packets that were not counted in any connection.",
			[]string{"reason"}, counter},
		{"weir_lost_bytes_total", "Their bytes.", []string{"reason"}, counter},
		{"weir_reported_packets_total", "Packets in all records.", nil, counter},
		{"weir_reported_bytes_total", "Their bytes.", nil, counter},
		{"weir_hooks", "Hooks that are in place: directions of interfaces.", []string{"mode"}, gauge},
		{"weir_interfaces_unwatched", "Interfaces that were discovered and cannot be watched.", nil, gauge},
		{"weir_table_entries", "Connections in the table at the last sweep.", []string{"family"}, gauge},
		{"weir_table_size", "Connections that each table has room for.", nil, gauge},
		{"weir_sweep_seconds", "How long the sweeps took.", nil, histogram},
		{"weir_sweeps_failed_total", "Sweeps that have failed; the next one reports what they did not.",
			nil, counter},
		{"weir_sink_failing", "1 when the latest attempt to send has failed.", []string{"sink"}, gauge},
		{"weir_sink_taken_records_total", "Records for the sink: sent, held and dropped.",
			[]string{"sink"}, counter},
		{"weir_sink_sent_records_total", "Records that the receiver has.", []string{"sink"}, counter},
		{"weir_sink_sent_bytes_total", "Their bytes, as they are encoded.", []string{"sink"}, counter},
		{"weir_sink_retried_records_total", "Records that were sent again, each time.",
			[]string{"sink"}, counter},
		{"weir_sink_held_records", "Records that wait.", []string{"sink"}, gauge},
		{"weir_sink_held_bytes", "Their bytes.", []string{"sink"}, gauge},
		{"weir_sink_dropped_records_total", "Records that the receiver will not get.",
			[]string{"sink", "reason"}, counter},
		{"weir_feature_on", "1 when a feature runs, 0 when it is configured and cannot.",
			[]string{"feature"}, gauge},
		{"weir_feature_lost_total", "What a feature had no room for, in its unit.",
			[]string{"feature"}, counter},
		{"weir_kernel_has", "1 when the kernel has what the datapath makes use of.",
			[]string{"probe"}, gauge},
		{"weir_healthy", "1 when sweeps succeed in time.", nil, gauge},
	}
}

// collector makes metrics of the agent's status.
type collector struct {
	agent Agent
	known map[string]known
}

type known struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func newCollector(a Agent) *collector {
	c := &collector{agent: a, known: map[string]known{}}
	for _, m := range Metrics() {
		c.known[m.Name] = known{prometheus.NewDesc(m.Name, m.Help, m.Labels, nil), m.kind}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, k := range c.known {
		to <- k.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s, err := c.agent.Status()
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.known["weir_healthy"].desc, err)
		return
	}
	p := printer{c.known, to}
	p.packets(&s.Counters)
	p.put("weir_interfaces_unwatched", float64(len(s.Unwatched)))
	p.table(&s)
	for i := range s.Sinks {
		p.sink(&s.Sinks[i])
	}
	for _, f := range s.Features {
		if f.State != control.FeatureOff {
			p.put("weir_feature_on", number(f.State == control.FeatureOn), f.Name)
			p.put("weir_feature_lost_total", float64(f.Lost), f.Name)
		}
	}
	for _, probe := range s.Probes {
		p.put("weir_kernel_has", number(probe.OK), probe.Name)
	}
	p.put("weir_healthy", number(s.Trouble == ""))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// printer sends metrics by their names.
type printer struct {
	known map[string]known
	to    chan<- prometheus.Metric
}

func (p printer) put(name string, v float64, labels ...string) {
	k := p.known[name]
	p.to <- prometheus.MustNewConstMetric(k.desc, k.kind, v, labels...)
}

// count puts a metric of packets and its companion of bytes.
func (p printer) count(what string, n bpf.Count, labels ...string) {
	p.put("weir_"+what+"_packets_total", float64(n.Packets), labels...)
	p.put("weir_"+what+"_bytes_total", float64(n.Bytes), labels...)
}

// packets sums up over all hooks. Every reason has a series from the beginning, so that the first loss
// is an increase.
func (p printer) packets(c *control.Counters) {
	var sum bpf.Counters
	lost, leftOut := map[string]bpf.Count{}, map[string]bpf.Count{}
	modes := map[string]int{bpf.TCX: 0, bpf.TC: 0, bpf.Netkit: 0, bpf.Chain: 0}
	add := func(to, from map[string]bpf.Count) {
		for reason, n := range from {
			total := to[reason]
			total.Add(n)
			to[reason] = total
		}
	}
	for i := range c.Hooks {
		h := &c.Hooks[i]
		if !h.Gone {
			modes[h.Mode]++
		}
		sum.Seen.Add(h.Seen)
		sum.Accounted.Add(h.Accounted)
		sum.Observed.Add(h.Observed)
		add(lost, h.Lost)
		add(leftOut, h.LeftOut)
	}
	sum.Seen.Add(c.NoHook) // and they are lost: the datapath's reason for them is no-hook
	noHook := lost[bpf.ReasonNoHook]
	noHook.Add(c.NoHook)
	lost[bpf.ReasonNoHook] = noHook
	p.count("seen", sum.Seen)
	p.count("accounted", sum.Accounted)
	p.count("observed", sum.Observed)
	p.count("reported", c.Reported)
	for _, reason := range bpf.Reasons() {
		p.count("lost", lost[reason], reason)
	}
	for _, reason := range bpf.LeftOut() {
		p.count("left_out", leftOut[reason], reason)
	}
	for mode, n := range modes {
		p.put("weir_hooks", float64(n), mode)
	}
}

func (p printer) table(s *control.Status) {
	p.put("weir_table_size", float64(s.Table.Size))
	p.put("weir_table_entries", float64(s.Table.IPv4), "ipv4")
	p.put("weir_table_entries", float64(s.Table.IPv6), "ipv6")
	within := map[float64]uint64{}
	for i, bound := range control.SweepBounds {
		within[bound] = s.Sweeps.Within[i]
	}
	p.to <- prometheus.MustNewConstHistogram(p.known["weir_sweep_seconds"].desc, s.Sweeps.Done,
		s.Sweeps.Total.Seconds(), within)
	p.put("weir_sweeps_failed_total", float64(s.Sweeps.Failed))
}

func (p printer) sink(s *export.Stats) {
	p.put("weir_sink_failing", number(s.Failing), s.Name)
	p.put("weir_sink_taken_records_total", float64(s.Taken.Records), s.Name)
	p.put("weir_sink_sent_records_total", float64(s.Sent.Records), s.Name)
	p.put("weir_sink_sent_bytes_total", float64(s.Sent.Bytes), s.Name)
	p.put("weir_sink_retried_records_total", float64(s.Retried.Records), s.Name)
	p.put("weir_sink_held_records", float64(s.Held.Records), s.Name)
	p.put("weir_sink_held_bytes", float64(s.Held.Bytes), s.Name)
	for _, reason := range slices.Sorted(slices.Values(export.Reasons())) {
		p.put("weir_sink_dropped_records_total", float64(s.Dropped[reason].Records), s.Name, reason)
	}
}
