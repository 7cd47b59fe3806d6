package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/latency"
	"github.com/weirnet/weir/bpf/sockets"
	"github.com/weirnet/weir/bpf/trace"
)

// DropSink is a Sink that also takes drop records. Flush is for both.
type DropSink interface {
	WriteDrop(*flow.Drop) error
}

// features are the optional features that run. Each stands alone: what cannot run here is
// logged, and the agent goes on without it. They are nil when none is configured.
type features struct {
	log        *slog.Logger
	drops      *drops
	rtt        *roundTrips
	dns        *lookups
	handshakes *handshakes
	nat        *translations
	holders    *holders
	started    map[string]control.Feature // those that are configured
}

// Features lists the names of all features.
func Features() []string {
	return slices.Concat(trace.Features(), latency.Features(), []string{FeatureNAT, sockets.Feature})
}

func checkFeatures(names []string) error {
	for _, n := range names {
		if !slices.Contains(Features(), n) {
			return fmt.Errorf("features: %q; there are %s", n, strings.Join(Features(), ", "))
		}
	}
	return nil
}

// startFeatures opens what is configured.
func (a *Agent) startFeatures(by signature) *features {
	cfg, log := &a.cfg, a.log
	if len(cfg.Features) == 0 {
		return nil
	}
	f := &features{log: log, started: map[string]control.Feature{}}
	for _, name := range Features() {
		if !slices.Contains(cfg.Features, name) {
			continue
		}
		note, err := "", error(nil)
		switch {
		case name == FeatureNAT:
			f.nat, err = startTranslations(cfg, a.dp)
		case name == sockets.Feature:
			if f.holders, err = startHolders(cfg, a.labels); err == nil {
				note = f.holders.note()
			}
		case slices.Contains(latency.Features(), name):
			err = f.startLatency(name, cfg, a.sink, by)
		default:
			note, err = f.start(name, cfg, a.sink, by)
		}
		state := control.Feature{Name: name, State: control.FeatureOn, Note: note}
		if err != nil {
			state.State, state.Reason = control.FeatureCannot, err.Error()
		}
		f.started[name] = state
		switch {
		case err != nil:
			log.Warn("feature", "name", name, "state", "cannot run here", "reason", err)
		case note != "":
			log.Info("feature", "name", name, "state", "on", "note", note)
		default:
			log.Info("feature", "name", name, "state", "on")
		}
	}
	return f
}

// start opens a feature that traces the kernel; the note is what it cannot tell here.
func (f *features) start(name string, cfg *Config, sink Sink, by signature) (note string,
	err error) {
	t, err := trace.Open(trace.Options{Drops: name == trace.FeatureDrops,
		RTT: name == trace.FeatureRTT, Max: cfg.Table.Size})
	if err != nil {
		return "", err
	}
	if name == trace.FeatureRTT {
		f.rtt = newRoundTrips(t, cfg.Table.Size, int64(cfg.Active+2*cfg.longest()))
		return t.Note(), nil
	}
	ds, ok := sink.(DropSink)
	if !ok {
		_ = t.Close() // the sink is what matters
		return "", errors.New("the sink takes no drop records")
	}
	f.drops = &drops{trace: t, sink: ds, signature: by, room: cfg.Table.Size}
	return t.Note(), nil
}

// sink returns what the recorder writes to.
func (f *features) sink(s Sink) Sink {
	if f != nil && f.rtt != nil {
		s = &rttSink{s, f.rtt}
	}
	if f != nil && (f.dns != nil || f.handshakes != nil) {
		s = &latencySink{s, f.dns, f.handshakes}
	}
	if f != nil && f.nat != nil {
		s = &natSink{Sink: s, nat: f.nat}
	}
	return s
}

// drain reads what the features have counted: round-trip times for the records of the sweep that
// comes, drops into the sink. Translations are brought up to date.
func (f *features) drain(now int64, zones zones) {
	if f.nat != nil {
		f.nat.drain(f.log)
	}
	if f.rtt != nil {
		f.report(trace.FeatureRTT, f.rtt.drain(now, zones), f.rtt.lost-f.rtt.logged)
		f.rtt.logged = f.rtt.lost
	}
	if f.holders != nil {
		before := f.holders.lost
		f.report(sockets.Feature, f.holders.drain(), f.holders.lost-before)
	}
	if f.drops != nil {
		before := f.drops.lost
		f.report(trace.FeatureDrops, f.drops.drain(), f.drops.lost-before)
	}
}

func (f *features) report(name string, err error, lost uint64) {
	if err != nil {
		f.log.Error("feature", "name", name, "error", err) // what was not read is read next time
	}
	if lost > 0 {
		f.log.Warn("feature", "name", name, "lost", lost, "reason", "the table is full")
	}
}

func (f *features) close() error {
	if f == nil {
		return nil
	}
	var errs []error
	if f.drops != nil {
		errs = append(errs, f.drops.trace.Close())
	}
	if f.rtt != nil {
		errs = append(errs, f.rtt.trace.Close())
	}
	errs = append(errs, f.closeWatchers())
	if f.nat != nil {
		errs = append(errs, f.nat.close())
	}
	return errors.Join(errs...)
}

// sweep makes one pass over all that the kernel has counted.
func (a *Agent) sweep(now int64, stop bool) error {
	begun := time.Now()
	before, err := a.dp.Deletions()
	if err == nil {
		err = a.pass(now, stop, func() error { return a.sweeper.sweep(now, stop) })
	}
	if err == nil {
		err = a.swept(now, before)
	}
	a.pulse.swept(begun, err)
	return err
}

// pass lets work write records, between what features have to do before and after that.
func (a *Agent) pass(now int64, stop bool, work func() error) error {
	a.labels.advance(now)
	if a.features == nil {
		return work()
	}
	a.features.drain(now, a.zones())
	a.features.drainLatency(now, stop)
	err := work()
	if err == nil && a.features.drops != nil {
		a.features.drops.written()
	}
	if err == nil && a.features.dns != nil {
		a.features.dns.written()
	}
	if err == nil && a.features.nat != nil {
		a.features.nat.swept()
	}
	return err
}
