// Package meter tells Prometheus about a host's chains: what runs, and what members' maps hold.
package meter

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/process"
)

const (
	// Every is how often metrics are sampled.
	Every = time.Second
	// Window is how many samples averages and highest rates are made of.
	Window = 20
)

// Meter samples the metrics of a host's chains.
type Meter struct {
	chains *api.Server
	mu     sync.Mutex // guards series
	series map[name]*series
}

// name names a series.
type name struct {
	chain  chain.Key
	member string
	metric chain.Metric
}

// series are the last samples of a metric, oldest first.
type series struct {
	samples []sample
	err     error // of the last one
}

type sample struct {
	at    time.Time
	value uint64
}

// New makes a meter of the chains that a server manages.
func New(chains *api.Server) *Meter { return &Meter{chains: chains, series: map[name]*series{}} }

// Run samples until the context ends.
func (m *Meter) Run(ctx context.Context) {
	t := time.NewTicker(Every)
	defer t.Stop()
	for {
		m.sample(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sample reads everything once. What is not measured any more is forgotten.
func (m *Meter) sample(now time.Time) {
	var readings []chain.Reading
	_ = m.chains.Do(func(manager *chain.Manager) error {
		readings = manager.Readings()
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.series
	m.series = map[name]*series{}
	for _, r := range readings {
		if r.Member == "" { // the chain could not be looked at: what is known of it stays
			keep(m.series, before, r.Key)
			continue
		}
		n := name{r.Key, r.Member, r.Metric}
		s := before[n]
		if s == nil {
			s = &series{}
		}
		s.add(now, r.Value, r.Err)
		m.series[n] = s
	}
}

func keep(to, from map[name]*series, k chain.Key) {
	for n, s := range from {
		if n.chain == k {
			to[n] = s
		}
	}
}

func (s *series) add(at time.Time, value uint64, err error) {
	if s.err = err; err != nil {
		return
	}
	if len(s.samples) == Window {
		s.samples = slices.Delete(s.samples, 0, 1)
	}
	s.samples = append(s.samples, sample{at, value})
}

// value is what the metric tells; false when there are too few samples for it.
func (s *series) value(as string) (float64, bool) {
	if len(s.samples) == 0 {
		return 0, false
	}
	switch as {
	case chain.AsAverage:
		return s.average(), true
	case chain.AsMaxRate:
		return s.maxRate()
	}
	return float64(s.samples[len(s.samples)-1].value), true
}

func (s *series) average() float64 {
	var sum float64
	for _, x := range s.samples {
		sum += float64(x.value)
	}
	return sum / float64(len(s.samples))
}

// maxRate is per second. A value that has become less was set to 0 in between, as when a map is made anew.
func (s *series) maxRate() (rate float64, ok bool) {
	for i := 1; i < len(s.samples); i++ {
		a, b := s.samples[i-1], s.samples[i]
		grown := b.value
		if b.value >= a.value {
			grown -= a.value
		}
		if seconds := b.at.Sub(a.at).Seconds(); seconds > 0 {
			rate, ok = max(rate, float64(grown)/seconds), true
		}
	}
	return rate, ok
}

// Metric describes one name.
type Metric struct {
	Name, Help string
	Labels     []string
}

var ofChain = []string{"namespace", "interface", "hook"}

// Metrics lists all metrics, in the order in which they are documented.
func Metrics() []Metric {
	return []Metric{
		{"weir_chain_generation", "Number of the generation that runs; 0 when none does.", ofChain},
		{"weir_chain_as_applied", "1 when the chain is as it was applied.", ofChain},
		{"weir_chain_members", "Members that run.", ofChain},
		{"weir_chain_map", "What a metric of a member tells of a map.",
			append(slices.Clone(ofChain), "member", "map", "key", "as")},
		{"weir_chain_process_up", "1 when the process of a member runs.", append(slices.Clone(ofChain), "member")},
		{"weir_chain_process_restarts_total", "How often the process of a member was started again after it had ended by itself.",
			append(slices.Clone(ofChain), "member")},
	}
}

func descriptions() (all []*prometheus.Desc) {
	for _, m := range Metrics() {
		all = append(all, prometheus.NewDesc(m.Name, m.Help, m.Labels, nil))
	}
	return all
}

var described = descriptions()

// Describe implements prometheus.Collector.
func (m *Meter) Describe(to chan<- *prometheus.Desc) {
	for _, d := range described {
		to <- d
	}
}

// collectProcess tells of the process of a member.
func collectProcess(to chan<- prometheus.Metric, p *process.Status, labels []string) {
	up := 0.0
	if p.State == process.Running {
		up = 1
	}
	to <- prometheus.MustNewConstMetric(described[4], prometheus.GaugeValue, up, labels...)
	to <- prometheus.MustNewConstMetric(described[5], prometheus.CounterValue, float64(p.Restarts), labels...)
}

// Collect implements prometheus.Collector.
func (m *Meter) Collect(to chan<- prometheus.Metric) {
	var all []chain.Status
	_ = m.chains.Do(func(manager *chain.Manager) error {
		all = manager.List()
		return nil
	})
	put := func(metric int, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(described[metric], prometheus.GaugeValue, v, labels...)
	}
	for i := range all {
		s := &all[i]
		labels := []string{s.Namespace, s.Interface, string(s.Hook)}
		applied, running := 0.0, 0
		if s.Drift == chain.None && s.Error == "" {
			applied = 1
		}
		for j := range s.Members {
			if s.Members[j].Program != 0 {
				running++
			}
		}
		put(0, float64(s.Generation), labels...)
		put(1, applied, labels...)
		put(2, float64(running), labels...)
		for j := range s.Members {
			if p := s.Members[j].Process; p != nil {
				collectProcess(to, p, append(slices.Clone(labels), s.Members[j].Name))
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, s := range m.series {
		if v, ok := s.value(n.metric.As); ok && s.err == nil {
			as := n.metric.As
			if as == "" {
				as = chain.AsValue
			}
			put(3, v, n.chain.Namespace, n.chain.Interface, string(n.chain.Hook), n.member, n.metric.Map,
				fmt.Sprint(n.metric.Key), as)
		}
	}
}
