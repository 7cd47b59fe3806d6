package agent

import (
	"os"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/bpf/latency"
	"github.com/weirnet/weir/bpf/sockets"
	"github.com/weirnet/weir/bpf/trace"
)

// Status tells how the agent is.
func (a *Agent) Status() (control.Status, error) {
	counters, err := a.Counters()
	if err != nil {
		return control.Status{}, err
	}
	s := control.Status{PID: os.Getpid(), Counters: counters}
	s.Since, s.Sweeps = a.pulse.read()
	if err := a.Healthy(); err != nil {
		s.Trouble = err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Boot = a.sweeper.rec.boot
	s.Table = control.Table{Size: a.dp.Options().Table, IPv4: a.sweeper.held.IPv4, IPv6: a.sweeper.held.IPv6}
	s.Features = a.features.states()
	s.Probes = a.probes()
	s.Unwatched = a.unwatched()
	return s, nil
}

// probes tells what the datapath does without on this kernel.
func (a *Agent) probes() []control.Probe {
	p := a.dp.Probes
	clock := control.Probe{Name: "coarse-clock", OK: p.CoarseClock}
	if !clock.OK {
		clock.Consequence = "the packet path reads a clock that costs more"
	}
	iter := control.Probe{Name: "iterator", OK: p.NoIterator == nil}
	if !iter.OK {
		iter.Consequence = "tables are swept in batches, which costs more: " + p.NoIterator.Error()
	}
	return []control.Probe{clock, iter}
}

// states tells of every feature whether it runs, in the order of Features.
func (f *features) states() []control.Feature {
	all := make([]control.Feature, 0, len(Features()))
	for _, name := range Features() {
		s := control.Feature{Name: name, State: control.FeatureOff}
		if f != nil {
			if known, ok := f.started[name]; ok {
				s = known
			}
			s.Lost = f.lost(name)
		}
		all = append(all, s)
	}
	return all
}

// lost is what a feature had no room for, in its own unit.
func (f *features) lost(name string) uint64 {
	switch {
	case name == trace.FeatureDrops && f.drops != nil:
		return f.drops.lost
	case name == trace.FeatureRTT && f.rtt != nil:
		return f.rtt.lost
	case name == latency.FeatureDNS && f.dns != nil:
		return f.dns.lost
	case name == latency.FeatureHandshake && f.handshakes != nil:
		return f.handshakes.lost
	case name == FeatureNAT && f.nat != nil:
		return f.nat.table.Stats().Lost
	case name == sockets.Feature && f.holders != nil:
		return f.holders.lost
	}
	return 0
}
