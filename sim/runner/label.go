package runner

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/static"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// clusters are the scenario's, by name, the first one first.
func (p *play) clusters() (names []string) {
	return append([]string{spec.ClusterName}, slices.Sorted(maps.Keys(p.sc.Cluster.Others))...)
}

// objectsOf are those of a cluster, as the scenario tells of them.
func (p *play) objectsOf(cluster string) static.File {
	if cluster == spec.ClusterName {
		return p.sc.Cluster.Objects
	}
	return p.sc.Cluster.Others[cluster]
}

func (p *play) clusterFile(name string) string { return filepath.Join(p.dir, "cluster-"+name+".yaml") }

func (p *play) rangesFile(of labeler.Provider) string {
	return filepath.Join(p.dir, "ranges-"+string(of)+".json")
}

// tellCluster writes the scenario's clusters and providers' ranges as files for the agent, and tells the
// model.
func (p *play) tellCluster() error {
	c := p.sc.Cluster
	if c == nil {
		return nil
	}
	cfg := model.ClusterConfig{Node: c.Node, Cluster: spec.ClusterName, Cloud: c.Cloud, Region: c.Region, Ranges: c.Ranges}
	for _, name := range p.clusters() {
		objects := p.objectsOf(name)
		pods := map[string]static.Pod{}
		for name, pod := range objects.Pods {
			pod.From, pod.Told, pod.To = later(pod.From), later(pod.Told), later(pod.To)
			pods[name] = pod
		}
		objects.Pods = pods
		data, err := yaml.Marshal(objects)
		if err != nil {
			return fmt.Errorf("write cluster %s: %w", name, err)
		}
		if err := os.WriteFile(p.clusterFile(name), data, 0o600); err != nil {
			return err
		}
		cfg.Clusters = append(cfg.Clusters, model.ClusterObjects{Name: name, File: objects})
	}
	for _, r := range c.Provided {
		cfg.Provided = append(cfg.Provided, model.ProvidedRange{Provider: string(r.Provider), CIDR: r.CIDR, Service: r.Service,
			Region: r.Region})
	}
	for of, file := range providerFiles(c.Provided) {
		data, err := json.Marshal(file)
		if err != nil {
			return fmt.Errorf("write ranges of %s: %w", of, err)
		}
		if err := os.WriteFile(p.rangesFile(of), data, 0o600); err != nil {
			return err
		}
	}
	var err error
	if p.cluster, err = model.NewCluster(cfg); err != nil {
		return fmt.Errorf("tell the model of the clusters: %w", err)
	}
	return nil
}

// providerFiles are ranges in the formats in which their providers publish them.
func providerFiles(ranges []spec.Provided) map[labeler.Provider]any {
	files := map[labeler.Provider]any{}
	for _, r := range ranges {
		v4, v6 := r.CIDR, ""
		if strings.Contains(r.CIDR, ":") {
			v4, v6 = "", r.CIDR
		}
		switch r.Provider {
		case labeler.ProviderAWS:
			f := fileOf[labeler.AWSIPRanges](files, r.Provider)
			if v6 != "" {
				f.IPv6Prefixes = append(f.IPv6Prefixes, labeler.AWSIPv6Prefix{IPv6Prefix: v6, Region: r.Region, Service: r.Service})
			} else {
				f.Prefixes = append(f.Prefixes, labeler.AWSPrefix{IPPrefix: v4, Region: r.Region, Service: r.Service})
			}
		case labeler.ProviderGCP:
			f := fileOf[labeler.GCPIPRanges](files, r.Provider)
			f.Prefixes = append(f.Prefixes, labeler.GCPPrefix{IPv4PrefixStr: v4, IPv6PrefixStr: v6, Service: r.Service,
				Scope: r.Region})
		case labeler.ProviderGoogle:
			f := fileOf[labeler.GoogleIPRanges](files, r.Provider)
			f.Prefixes = append(f.Prefixes, labeler.GoogleIPRange{IPv4PrefixStr: v4, IPv6PrefixStr: v6})
		case labeler.ProviderAzure:
			f := fileOf[labeler.AzureIPRanges](files, r.Provider)
			f.PrefixGroups = append(f.PrefixGroups, labeler.AzurePrefixGroup{Name: r.Service + "." + r.Region,
				Properties: labeler.AzurePrefixGroupProperties{Region: r.Region, SystemService: r.Service,
					AddressPrefixes: []string{r.CIDR}}})
		}
	}
	return files
}

// fileOf finds or begins a provider's file.
func fileOf[F any](files map[labeler.Provider]any, of labeler.Provider) *F {
	f, ok := files[of].(*F)
	if !ok {
		f = new(F)
		files[of] = f
	}
	return f
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
	l.Node, l.Cluster, l.Cloud, l.Region, l.Ranges.Own = c.Node, spec.ClusterName, c.Cloud, c.Region, c.Ranges
	if c.Node == "" {
		l.Node = "-" // else it would be this machine
	}
	if c.Wait != 0 {
		l.Wait = c.Wait
	}
	for _, name := range p.clusters() {
		l.Clusters = append(l.Clusters, agent.LabelCluster{Name: name, File: p.clusterFile(name)})
	}
	for _, r := range c.Provided {
		if l.Ranges.Files == nil {
			l.Ranges.Files = map[string]string{}
		}
		l.Ranges.Files[string(r.Provider)] = p.rangesFile(r.Provider)
	}
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
	pod := p.objectsOf(now.Cluster).Pods[now.Namespace+"/"+now.Pod]
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
