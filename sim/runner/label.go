package runner

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/static"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
)

// clusterName is the name of the scenario's cluster.
const clusterName = "cluster"

func (p *play) clusterFile() string { return filepath.Join(p.dir, "cluster.yaml") }

// tellCluster writes the scenario's cluster as a file for the agent, and tells the model.
func (p *play) tellCluster() error {
	c := p.sc.Cluster
	if c == nil {
		return nil
	}
	objects := c.Objects
	objects.Pods = map[string]static.Pod{}
	for name, pod := range c.Objects.Pods {
		pod.From, pod.Told, pod.To = later(pod.From), later(pod.Told), later(pod.To)
		objects.Pods[name] = pod
	}
	data, err := yaml.Marshal(objects)
	if err != nil {
		return fmt.Errorf("write the cluster: %w", err)
	}
	p.cluster, err = model.NewCluster(model.ClusterConfig{Name: clusterName, Node: c.Node, Cloud: c.Cloud,
		Region: c.Region, Objects: objects, Ranges: c.Ranges})
	if err != nil {
		return fmt.Errorf("tell the model of the cluster: %w", err)
	}
	return os.WriteFile(p.clusterFile(), data, 0o600)
}

// later makes a time of the scenario one of the agent's clock.
func later(t static.Time) static.Time {
	d, err := time.ParseDuration(string(t))
	if err != nil {
		return t // there is none
	}
	return static.Time((d + start).String())
}

// labels configures the agent.
func (p *play) labels(l *agent.Labels) {
	c := p.sc.Cluster
	if c == nil {
		return
	}
	l.Node, l.Cloud, l.Region, l.Ranges.Own = c.Node, c.Cloud, c.Region, c.Ranges
	if c.Node == "" {
		l.Node = "-" // else it would be this machine
	}
	if c.Wait != 0 {
		l.Wait = c.Wait
	}
	l.Clusters = []agent.LabelCluster{{Name: clusterName, File: p.clusterFile()}}
}

// labelled checks that every record has a class, or a reason why not; and that the agent has counted
// all that it has reported by these.
func (p *play) labelled(records []flow.Record) (diffs []result.Difference) {
	if p.sc.Cluster == nil {
		return nil
	}
	for _, r := range records {
		known := r.Class != "" && r.Class != labeler.Unknown.String()
		if r.SrcLabels == nil || r.DstLabels == nil || known != (r.Unlabelled == "") {
			diffs = append(diffs, unequal(fmt.Sprintf("boot %s, sequence %d: a class, or a reason", r.Boot, r.Sequence),
				"class", "", r.Class+" "+r.Unlabelled))
		}
	}
	for i := range p.ledgers {
		sum, reported := bpf.Count{}, p.ledgers[i].Reported
		if l := p.ledgers[i].Labels; l != nil {
			sum.Add(bpf.Count(l.Labelled))
			for _, c := range l.Unknown {
				sum.Add(bpf.Count(c))
			}
		}
		if sum != reported {
			diffs = append(diffs, unequal("reported = labelled + unknown", "bytes",
				strconv.FormatUint(reported.Bytes, 10), strconv.FormatUint(sum.Bytes, 10)))
		}
	}
	return diffs
}

// leg is a direction of a connection.
type leg struct {
	flow uint64
	src  netip.AddrPort
}

// held checks that reports of young connections have waited for owners that were told of in time: that no
// record of a connection that went on lacks an owner that a later one has, unless it became known too late.
func (p *play) held(records []flow.Record) (diffs []result.Difference) {
	if p.sc.Cluster == nil {
		return nil
	}
	wait := int64(cmp.Or(p.sc.Cluster.Wait, agent.DefaultConfig().Labels.Wait))
	began := map[uint64]int64{}
	for _, r := range records {
		if at, ok := began[r.Flow]; !ok || r.Start < at {
			began[r.Flow] = r.Start
		}
	}
	early := map[leg]flow.Record{}
	for _, r := range records {
		at := leg{r.Flow, netip.AddrPortFrom(r.Src, r.SrcPort)}
		before, ok := early[at]
		if !ok && r.Reason == flow.EndActive {
			early[at] = r
		}
		if !ok || p.knownAt(before.SrcLabels, r.SrcLabels)-began[r.Flow] >= wait &&
			p.knownAt(before.DstLabels, r.DstLabels)-began[r.Flow] >= wait {
			continue
		}
		diffs = append(diffs, result.Difference{Section: "flows", Against: "invariant", Kind: "extra",
			Record: fmt.Sprintf("boot %s, sequence %d: written before the owner was told of, and within the wait",
				before.Boot, before.Sequence)})
	}
	return diffs
}

// knownAt is when the owner that a record names and an earlier one does not was told of, by the agent's
// clock; never when there is none.
func (p *play) knownAt(before, now *flow.Labels) int64 {
	if before == nil || now == nil || now.Kind != flow.KindPod ||
		before.Kind != flow.KindPrivate && before.Kind != flow.KindUnknown {
		return math.MaxInt64
	}
	pod := p.sc.Cluster.Objects.Pods[now.Namespace+"/"+now.Pod]
	d, err := time.ParseDuration(string(cmp.Or(pod.Told, pod.From)))
	if err != nil {
		return math.MaxInt64 // it was known from the beginning
	}
	return int64(d + start)
}

func unequal(rule, field, want, got string) result.Difference {
	return result.Difference{Section: "conservation", Against: "invariant", Kind: "differs", Record: rule,
		Fields: []result.Field{{Name: field, Want: want, Got: got}}}
}
