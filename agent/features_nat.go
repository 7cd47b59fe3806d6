package agent

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/nat"
	"github.com/weirnet/weir/bpf"
)

// FeatureNAT is the name of the feature that tells address translations.
const FeatureNAT = "nat"

// translations are what the kernel's connection tracking tells in the namespaces that are watched.
type translations struct {
	dp        *bpf.Datapath
	table     *nat.Table
	listeners map[string]*nat.Listener // by namespace, as hooks name it
	zones     map[string][]uint16      // likewise
	logged    nat.Stats                // what was logged of
}

// startTranslations listens in every namespace in which an interface is watched.
func startTranslations(cfg *Config, dp *bpf.Datapath) (*translations, error) {
	t := &translations{dp: dp, table: nat.NewTable(cfg.Table.Size), zones: map[string][]uint16{},
		listeners: map[string]*nat.Listener{}}
	for i := range cfg.Interfaces {
		if err := t.also(&cfg.Interfaces[i]); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

// also listens where another interface is watched.
func (t *translations) also(n *Interface) error {
	name := n.shown()
	if t.listeners[name] == nil {
		if err := t.listen(n.Namespace, name); err != nil {
			return err
		}
	}
	if !slices.Contains(t.zones[name], n.Zone) {
		t.zones[name] = append(t.zones[name], n.Zone)
	}
	return nil
}

// also tells the features that an interface is watched now.
func (f *features) also(n *Interface, log *slog.Logger) {
	if f == nil || f.nat == nil {
		return
	}
	if err := f.nat.also(n); err != nil {
		log.Error("feature", "name", FeatureNAT, "namespace", n.shown(), "error", err)
	}
}

// keepOnly stops listening in namespaces of which no interface is watched any more, as that keeps a
// namespace alive.
func (t *translations) keepOnly(names map[string]bool) error {
	var errs []error
	for name, l := range t.listeners {
		if !names[name] {
			errs = append(errs, l.Close())
			delete(t.listeners, name)
			delete(t.zones, name)
		}
	}
	return errors.Join(errs...)
}

func (t *translations) listen(namespace, name string) error {
	return ifaces.Do(namespace, func() error {
		l, err := nat.Listen(name, t.table)
		if err == nil {
			t.listeners[name] = l
		}
		return err
	})
}

func (t *translations) close() error {
	var errs []error
	for _, l := range t.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// drain comes before the records of a sweep: what the kernel has translated by now is known then.
func (t *translations) drain(log *slog.Logger) {
	for _, l := range t.listeners {
		if err := l.Catch(); err != nil {
			log.Error("feature", "name", FeatureNAT, "error", err)
		}
	}
	now := t.table.Stats()
	if now.Lost > t.logged.Lost {
		log.Warn("feature", "name", FeatureNAT, "lost", now.Lost-t.logged.Lost,
			"reason", "the table is full")
	}
	if now.Overruns > t.logged.Overruns {
		log.Warn("feature", "name", FeatureNAT, "overruns", now.Overruns-t.logged.Overruns,
			"reason", "the kernel has lost events; all was read anew")
	}
	t.logged = now
}

// translations tells what the feature nat holds; nil when it does not run.
func (f *features) translations() *nat.Stats {
	if f == nil || f.nat == nil {
		return nil
	}
	stats := f.nat.table.Stats()
	return &stats
}

// Translations lists the address translations that are known, in order.
func (a *Agent) Translations() ([]control.Translation, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.features == nil || a.features.nat == nil {
		return nil, errors.New("the feature nat does not run: add nat to features in the agent's configuration, or if it is there, let weir status say why")
	}
	all := []control.Translation{}
	a.features.nat.table.List(func(namespace string, t nat.Translation) {
		all = append(all, control.Translation{Namespace: namespace, Protocol: t.Tuple[0].Protocol,
			Before: natOf(t.ID, t.Flow[nat.Before], &t.Tuple[nat.Before]),
			After:  natOf(t.ID, t.Flow[nat.After], &t.Tuple[nat.After])})
	})
	slices.SortFunc(all, func(x, y control.Translation) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Protocol, y.Protocol),
			x.Before.Src.Compare(y.Before.Src), cmp.Compare(x.Before.SrcPort, y.Before.SrcPort),
			cmp.Compare(x.Before.ID, y.Before.ID))
	})
	return all, nil
}

// swept comes after the records of a sweep.
func (t *translations) swept() { t.table.Sweep(t.alive) }

// alive tells whether the connection table holds a tuple. When that cannot be read, it may.
func (t *translations) alive(namespace string, tuple nat.Tuple) bool {
	for _, zone := range t.zones[namespace] {
		if flow, err := t.flow(zone, &tuple, 0); flow != 0 || err != nil {
			return true
		}
	}
	return false
}

// flow is the flow id of the connection with a tuple, or 0. With an ICMP protocol for errors, it is
// that of the errors about it.
func (t *translations) flow(zone uint16, tuple *nat.Tuple, errors uint8) (uint64, error) {
	b := bpf.Tuple{
		Addr: [2]netip.Addr{tuple.Src, tuple.Dst}, Port: [2]uint16{tuple.SrcPort, tuple.DstPort},
		Zone: zone, Protocol: tuple.Protocol,
		ICMPID: tuple.ICMPID, ICMPType: tuple.ICMPType, ICMPCode: tuple.ICMPCode,
	}
	if errors != 0 {
		b.Protocol, b.Cites = errors, tuple.Protocol
	}
	return t.dp.Lookup(&b)
}

// natSink adds translations to the records that go through it.
type natSink struct {
	Sink
	nat *translations
}

// Write takes a record.
func (s *natSink) Write(rec *flow.Record) error {
	s.nat.join(rec)
	return s.Sink.Write(rec)
}

// translate adds translations to a record; nothing when the feature nat does not run.
func (f *features) translate(rec *flow.Record) {
	if f != nil && f.nat != nil {
		f.nat.join(rec)
	}
}

// join looks for translations in the namespaces whose hooks have seen the record's packets: of a
// connection that they make something else of, or that they have made.
func (t *translations) join(rec *flow.Record) {
	if t.table.Empty() {
		return
	}
	for i, hook := range rec.Seen {
		if i > 0 && hook.Namespace == rec.Seen[0].Namespace {
			continue
		}
		if rec.NATAfter.ID == "" {
			rec.NATAfter = t.other(rec, hook.Namespace, nat.Before)
		}
		if rec.NATBefore.ID == "" {
			rec.NATBefore = t.other(rec, hook.Namespace, nat.After)
		}
	}
}

// other is what the record's connection is called on the other side of the translation of which it
// is on this side; nothing when there is none.
func (t *translations) other(rec *flow.Record, namespace string, side nat.Side) flow.NAT {
	tuple, own, errors := tupleOf(rec), rec.Flow, uint8(0)
	if rec.Cites != 0 {
		errors = rec.Protocol
	}
	if rec.Cites != 0 || rec.Reason == flow.EndResource {
		own = 0 // not the flow of the translated connection
	}
	found, ok := t.table.Find(namespace, side, tuple, own)
	reverse := !ok
	if reverse {
		if found, ok = t.table.Find(namespace, side, tuple.Reverse(), own); !ok {
			return flow.NAT{}
		}
	}
	far := side.Other()
	known, err := t.flow(rec.Zone, &found.Tuple[far], errors)
	if errors == 0 && (err != nil || known == 0) {
		known = found.Flow[far] // it has ended
	}
	if reverse {
		found.Tuple[far] = found.Tuple[far].Reverse()
	}
	return natOf(found.ID, known, &found.Tuple[far])
}

func natOf(id string, known uint64, t *nat.Tuple) flow.NAT {
	return flow.NAT{ID: id, Flow: known, Src: t.Src, Dst: t.Dst, SrcPort: t.SrcPort, DstPort: t.DstPort,
		ICMPID: t.ICMPID}
}

// tupleOf is the tuple of a record's connection; of an ICMP error, of the one that it cites.
func tupleOf(rec *flow.Record) nat.Tuple {
	t := nat.Tuple{Src: rec.Src, Dst: rec.Dst, SrcPort: rec.SrcPort, DstPort: rec.DstPort,
		Protocol: rec.Protocol, ICMPType: rec.ICMPType, ICMPCode: rec.ICMPCode, ICMPID: rec.ICMPID}
	if rec.Cites != 0 {
		t.Protocol = rec.Cites
	}
	return t
}

// probeTranslations tells why translations cannot be learnt in the agent's own namespace.
func probeTranslations() error {
	l, err := nat.Listen("", nat.NewTable(0))
	if err != nil {
		return err
	}
	return l.Close()
}
