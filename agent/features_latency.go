package agent

import (
	"errors"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/latency"
	"github.com/weirnet/weir/bpf/sockets"
)

// watcher is a feature that stands on hooks.
type watcher interface {
	Attach(h bpf.Hook, number uint16) error
	Move(number uint16, slot *ebpf.Map) (*bpf.Move, error)
	Detach(number uint16) error
	SetNow(ns int64) error
	Close() error
}

// watchers are those that run, by name.
func (f *features) watchers() map[string]watcher {
	all := map[string]watcher{}
	if f != nil && f.dns != nil {
		all[latency.FeatureDNS] = f.dns.feature
	}
	if f != nil && f.handshakes != nil {
		all[latency.FeatureHandshake] = f.handshakes.feature
	}
	if f != nil && f.holders != nil {
		all[sockets.Feature] = f.holders.feature
	}
	return all
}

// onHooks are the features that stand on hooks.
func onHooks() []string { return append(latency.Features(), sockets.Feature) }

// removeFilter takes the tc filter off a hook that a feature of a killed agent may have left there. It must be
// called in the hook's network namespace.
func removeFilter(name string, h bpf.Hook) error {
	if name == sockets.Feature {
		return sockets.Remove(h)
	}
	return latency.Remove(name, h)
}

// startLatency opens a feature that stands on hooks.
func (f *features) startLatency(name string, cfg *Config, sink Sink, by signature) error {
	opts := latency.Options{Max: cfg.Table.Size, Virtual: cfg.Clock.Virtual}
	keep := int64(cfg.Active + 2*cfg.longest())
	if name == latency.FeatureHandshake {
		h, err := latency.OpenHandshake(opts)
		if err == nil {
			f.handshakes = newHandshakes(h, cfg.Table.Size, keep)
		}
		return err
	}
	ds, ok := sink.(DNSSink)
	if !ok {
		return errors.New("the sink takes no DNS records")
	}
	d, err := latency.OpenDNS(cfg.DNS.Ports, opts)
	if err == nil {
		f.dns = &lookups{feature: d, sink: ds, signature: by, timeout: cfg.DNS.Timeout,
			room: cfg.Table.Size, keep: keep, held: map[lookupKey]*heldLookups{}}
	}
	return err
}

// attachFeatures puts the features on a hook where the packet path is, in the hook's network namespace.
// It takes off what a killed agent may have left there of others.
func (a *Agent) attachFeatures(at *bpf.Attachment) {
	h := at.Hook
	if at.Mode != bpf.Chain {
		h.Mode = at.Mode
	}
	on := a.features.watchers()
	for _, name := range onHooks() {
		var err error
		if w := on[name]; w != nil {
			h.Slot = a.slots[slotOf(at, name)]
			err = w.Attach(h, at.Number)
		} else if !at.Linked() {
			err = removeFilter(name, h)
		}
		if err != nil {
			a.log.Error("feature", "name", name, "hook", a.hook(at.Number).String(), "error", err)
		}
	}
}

// detach takes the features off a hook. Unless the hook is a link, it must be called in the hook's network
// namespace.
func (f *features) detach(at *bpf.Attachment) error {
	var errs []error
	on := f.watchers()
	for _, name := range onHooks() {
		if w := on[name]; w != nil {
			errs = append(errs, w.Detach(at.Number))
		} else if !at.Linked() {
			errs = append(errs, removeFilter(name, at.Hook))
		}
	}
	return errors.Join(errs...)
}

func (f *features) setNow(ns int64) error {
	var errs []error
	for _, w := range f.watchers() {
		errs = append(errs, w.SetNow(ns))
	}
	return errors.Join(errs...)
}

func (f *features) closeWatchers() error {
	var errs []error
	for _, w := range f.watchers() {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// drainLatency reads what the features have seen, for the records of the sweep that comes; DNS records
// go to the sink.
func (f *features) drainLatency(now int64, stop bool) {
	if f.dns != nil {
		f.report(latency.FeatureDNS, f.dns.drain(now, stop), 0) // losses are records
	}
	if f.handshakes != nil {
		before := f.handshakes.lost
		f.report(latency.FeatureHandshake, f.handshakes.drain(now, stop), f.handshakes.lost-before)
	}
}

// latencySink adds what the features have seen of a connection to a record of its client's
// direction.
type latencySink struct {
	Sink
	dns        *lookups    // may be nil
	handshakes *handshakes // may be nil
}

// Write takes a record. What is added is told once.
func (s *latencySink) Write(rec *flow.Record) error {
	if rec.Cites != 0 {
		return s.Sink.Write(rec)
	}
	var told []func()
	if s.dns != nil {
		told = append(told, s.dns.join(rec))
	}
	if s.handshakes != nil {
		told = append(told, s.handshakes.join(rec))
	}
	if err := s.Sink.Write(rec); err != nil {
		return err
	}
	for _, forget := range told {
		forget()
	}
	return nil
}

// nothing is to be forgotten.
func nothing() {}
