package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/fetch"
	"github.com/weirnet/weir/agent/labeler/kube"
	"github.com/weirnet/weir/agent/labeler/static"
	"github.com/weirnet/weir/bpf"
)

// labels bring who owns addresses to records. They are nil when nothing is known.
type labels struct {
	cfg     *Labels
	log     *slog.Logger
	virtual bool // the clock
	labeler *labeler.Labeler
	remote  *labeler.RemoteLabeler
	own     []labeler.Entry
	files   []*static.Source
	by      labeler.Asker

	stop    context.CancelFunc
	running sync.WaitGroup
}

// startLabels begins to listen to the sources. now is the agent's clock.
func startLabels(cfg *Config, now int64, log *slog.Logger) (*labels, error) {
	if !cfg.Labels.on() {
		return nil, nil
	}
	l := &labels{cfg: &cfg.Labels, log: log, virtual: cfg.Clock.Virtual,
		by: labeler.Asker{Node: cfg.Labels.node()}}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	if err := l.start(ctx, now); err != nil {
		l.close()
		return nil, fmt.Errorf("labels: %w", err)
	}
	return l, nil
}

func (l *labels) start(ctx context.Context, now int64) (err error) {
	l.remote = labeler.NewRemoteLabeler(labeler.RemoteOptions{Cloud: labeler.Cloud(l.cfg.Cloud),
		Region: l.cfg.Region})
	l.setEpoch(now)
	var clusters []*labeler.Cluster
	for _, c := range l.cfg.Clusters {
		cluster := labeler.NewCluster(labeler.ClusterOptions{Name: c.Name, Zone: c.Zone})
		clusters = append(clusters, cluster)
		if c.Kubernetes != nil {
			err = l.watch(ctx, cluster, c.Kubernetes)
		} else {
			err = l.read(c.File, cluster, now)
		}
		if err != nil {
			return err
		}
	}
	l.labeler = labeler.NewLabeler(labeler.Options{Clusters: clusters, Cluster: l.cfg.cluster(),
		Remote: l.remote})
	return l.loadRanges(ctx)
}

// read reads a file; its durations count from the zero of a virtual clock, else from now.
func (l *labels) read(file string, c *labeler.Cluster, now int64) error {
	start := l.by.Epoch + now
	if l.virtual {
		start = 0
	}
	s, err := static.New(file, c, start)
	if err != nil {
		return err
	}
	l.files = append(l.files, s)
	return s.Advance(l.by.Epoch + now)
}

func (l *labels) watch(ctx context.Context, c *labeler.Cluster, k *Kubernetes) error {
	s, err := kube.New(c, kube.Options{Kubeconfig: k.Kubeconfig, Context: k.Context, Keys: l.cfg.keys(),
		Log: l.log})
	if err != nil {
		return err
	}
	l.running.Go(func() {
		if err := s.Run(ctx); err != nil {
			l.log.Error("labels", "cluster", c.Name(), "error", err)
		}
	})
	return nil
}

// loadRanges reads what there is of address ranges on this machine, then all, now and then. What
// cannot be read is left out, and logged.
func (l *labels) loadRanges(ctx context.Context) (err error) {
	if l.own, err = l.cfg.Ranges.own(); err != nil {
		return err
	}
	sources, err := l.cfg.Ranges.sources()
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return l.setRanges(nil)
	}
	every := l.cfg.Ranges.Every
	if every == 0 {
		every = 24 * time.Hour
	}
	loader := fetch.New(fetch.Options{Sources: sources, Cache: l.cfg.Ranges.Cache})
	l.take(loader.Local())
	l.running.Go(func() {
		l.take(loader.Load(ctx))
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.take(loader.Load(ctx))
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// take takes what was loaded, and logs what was not.
func (l *labels) take(files []labeler.File, errs []error) {
	for _, err := range errs {
		l.log.Warn("address ranges", "error", err)
	}
	for _, f := range files {
		if f.Bad > 0 {
			l.log.Warn("address ranges", "provider", f.Provider, "skipped", f.Bad, "first", f.FirstBad)
		}
	}
	if err := l.setRanges(files); err != nil {
		l.log.Error("address ranges", "error", err)
	}
}

func (l *labels) setRanges(files []labeler.File) error {
	r, err := labeler.NewRanges(files, labeler.RangeOptions{User: l.own})
	if err == nil {
		l.remote.SetRanges(r)
	}
	return err
}

// setEpoch relates the agent's clock to that of labels, which is wall time, and a virtual clock
// itself. The wall clock may be set at any time.
func (l *labels) setEpoch(now int64) {
	if !l.virtual {
		l.by.Epoch = time.Now().UnixNano() - now
	}
}

// advance lets files tell what has become known by now.
func (l *labels) advance(now int64) {
	if l == nil {
		return
	}
	l.setEpoch(now)
	for _, s := range l.files {
		if err := s.Advance(l.by.Epoch + now); err != nil {
			l.log.Error("labels", "error", err) // what was read before holds
		}
	}
}

// sink returns what the recorder writes to.
func (l *labels) sink(s Sink) Sink {
	if l == nil {
		return s
	}
	return &labelSink{s, l}
}

// hold tells whether a connection's report had better wait: it is young, and its owners may yet
// be told of. It stays in the table meanwhile, where it is safe.
func (a *Agent) hold(e *bpf.Entry, now int64) bool {
	l := a.labels
	if l == nil || l.cfg.Wait == 0 || now-began(e) >= int64(l.cfg.Wait) {
		return false
	}
	rec := a.named(e)
	return l.labeler.Pending(&rec, l.by)
}

// named is a record of a connection from its initiator's side, as far as labels depend on it.
func (a *Agent) named(e *bpf.Entry) flow.Record {
	r := a.sweeper.rec
	r.describe(&r.record, e, conntrack.Source(e))
	rec := r.record
	rec.Start, rec.End = began(e), e.Last()
	a.features.translate(&rec)
	return rec
}

// describe tells who is at the ends of a connection.
func (a *Agent) describe(to *conntrack.Entry, e *bpf.Entry) {
	if a.labels == nil {
		return
	}
	rec := a.named(e)
	a.labels.labeler.Describe(&rec, a.labels.by)
	to.SrcLabels, to.DstLabels = rec.SrcLabels, rec.DstLabels
	to.Service, to.Class = rec.Service, rec.Class
}

// began is when the first packet of either direction came.
func began(e *bpf.Entry) int64 {
	a, b := e.Legs[0].First, e.Legs[1].First
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (l *labels) stats() *labeler.Stats {
	if l == nil {
		return nil
	}
	s := l.labeler.Stats()
	return &s
}

func (l *labels) close() {
	if l == nil {
		return
	}
	l.stop()
	l.running.Wait()
}

// labelSink adds labels to the records that go through it.
type labelSink struct {
	Sink
	labels *labels
}

// Write takes a record.
func (s *labelSink) Write(rec *flow.Record) error {
	s.labels.labeler.LabelRecord(rec, s.labels.by)
	if s.labels.cfg.Mirrors == mirrorsDrop && rec.LabelFlags&flow.FlagMirror != 0 {
		s.labels.labeler.CountDropped(rec)
		return nil
	}
	rec.Environment = s.labels.cfg.Environment
	return s.Sink.Write(rec)
}
