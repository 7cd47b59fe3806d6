package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/fetch"
	"github.com/weirnet/weir/agent/labeler/kube"
)

// Labels say where it is known who owns addresses. Records have labels when there is a cluster
// or a range.
type Labels struct {
	// Node is this machine's name in its cluster; empty: the environment variable NODE_NAME, else
	// the host's name.
	Node string `yaml:"node,omitempty"`
	// Cluster is the one of Clusters that this machine is in, for nodes of others may have its name. Empty: the one
	// whose API server is reached as the pod that the agent is, if there is such, else any.
	Cluster string `yaml:"cluster,omitempty"`
	// Environment is told in every record: development, staging or production; empty: nothing.
	Environment string `yaml:"environment,omitempty"`
	// Cloud (aws, gcp or azure) and Region are for nodes that do not tell theirs.
	Cloud  string `yaml:"cloud,omitempty"`
	Region string `yaml:"region,omitempty"`
	// Wait is how long after its beginning a connection is not reported while nobody claims one of
	// its addresses: its owner may be told of late.
	Wait time.Duration `yaml:"wait,omitempty"`
	// Mirrors are records of packets that the agent on the sender's node reports too: keep, or drop.
	// Empty: keep.
	Mirrors string `yaml:"mirrors,omitempty"`
	// AppKeys and InstanceKeys are Kubernetes labels: the first one that a pod has becomes "app" or
	// "instance". Empty: Kubernetes' recommended ones, and none.
	AppKeys      []string `yaml:"app_keys,omitempty"`
	InstanceKeys []string `yaml:"instance_keys,omitempty"`
	// Cgroups is where the host's control groups of version 2 are mounted, for the feature sockets. Empty: of
	// all places where they are, the one from which most is seen.
	Cgroups string `yaml:"cgroups,omitempty"`
	// Clusters tell of pods, nodes and services.
	Clusters []LabelCluster `yaml:"clusters,omitempty"`
	// Ranges are addresses outside of clusters.
	Ranges LabelRanges `yaml:"ranges,omitempty"`
}

// LabelCluster is a cluster and where it is told of: a file, or Kubernetes.
type LabelCluster struct {
	// Name is told in records, and no other cluster's.
	Name string `yaml:"name"`
	// Zone is as of an interface.
	Zone uint16 `yaml:"zone,omitempty"`
	// File is a YAML file, see docs/labels.md.
	File string `yaml:"file,omitempty"`
	// Kubernetes is how an API server is reached; {}: as the pod that the agent is.
	Kubernetes *Kubernetes `yaml:"kubernetes,omitempty"`
}

// Kubernetes is how an API server is reached; without a kubeconfig, as the pod that the agent is.
type Kubernetes struct {
	// Kubeconfig is a file, and Context one of its contexts; empty: its current one.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`
}

// LabelRanges are address ranges outside of clusters.
type LabelRanges struct {
	// Files and URLs are where the providers' files are: aws, gcp, google, azure. Nothing is
	// fetched that is not named here.
	Files map[string]string `yaml:"files,omitempty"`
	URLs  map[string]string `yaml:"urls,omitempty"`
	// Cache is a folder for what was fetched; empty: none.
	Cache string `yaml:"cache,omitempty"`
	// Every is how often they are read again; 0: once a day.
	Every time.Duration `yaml:"every,omitempty"`
	// Own ranges beat the providers'.
	Own []OwnRange `yaml:"own,omitempty"`
}

// OwnRange is a range of the user's.
type OwnRange struct {
	// CIDR is the range, and Name what records call it.
	CIDR string `yaml:"cidr"`
	Name string `yaml:"name"`
	// Zone, Region and Cloud say where it is; empty: not told.
	Zone   string `yaml:"zone,omitempty"`
	Region string `yaml:"region,omitempty"`
	Cloud  string `yaml:"cloud,omitempty"`
	// Class is the connection class; empty: from where it is.
	Class string `yaml:"class,omitempty"`
}

// What becomes of mirrors.
const (
	mirrorsKeep = "keep"
	mirrorsDrop = "drop"
)

// defaultWait is longer than informers take to tell of a new pod.
const defaultWait = 10 * time.Second

// on tells whether there is anything to label with.
func (l *Labels) on() bool {
	r := &l.Ranges
	return len(l.Clusters) > 0 || len(r.Files) > 0 || len(r.URLs) > 0 || len(r.Own) > 0
}

func (l *Labels) check() error {
	if l.Environment != "" {
		if _, err := labeler.NewEnvironment(l.Environment); err != nil {
			return err
		}
	}
	if l.Cloud != "" {
		if _, err := labeler.NewCloud(l.Cloud); err != nil {
			return err
		}
	}
	if l.Wait < 0 {
		return fmt.Errorf("wait: %v; want 0 or more", l.Wait)
	}
	if !slices.Contains([]string{"", mirrorsKeep, mirrorsDrop}, l.Mirrors) {
		return fmt.Errorf("mirrors: %q; want %s or %s", l.Mirrors, mirrorsKeep, mirrorsDrop)
	}
	names := map[string]bool{}
	for i, c := range l.Clusters {
		switch {
		case c.Name == "" || names[c.Name]:
			return fmt.Errorf("clusters[%d].name: %q; want a name of its own", i, c.Name)
		case (c.File == "") == (c.Kubernetes == nil):
			return fmt.Errorf("clusters[%d]: want either file or kubernetes", i)
		}
		names[c.Name] = true
	}
	if l.Cluster != "" && !names[l.Cluster] {
		return fmt.Errorf("cluster: %q; want the name of one of clusters", l.Cluster)
	}
	if _, err := l.Ranges.own(); err != nil {
		return fmt.Errorf("ranges.%w", err)
	}
	_, err := l.Ranges.sources()
	return err
}

// own are the user's ranges.
func (r *LabelRanges) own() (all []labeler.Entry, err error) {
	for i, o := range r.Own {
		e, err := o.entry()
		if err != nil {
			return nil, fmt.Errorf("own[%d].%w", i, err)
		}
		all = append(all, e)
	}
	return all, nil
}

// Check tells whether the agent takes the range.
func (o *OwnRange) Check() error {
	_, err := o.entry()
	return err
}

func (o *OwnRange) entry() (e labeler.Entry, err error) {
	e.Range = &labeler.Range{Name: o.Name, Zone: o.Zone, Region: o.Region, Cloud: labeler.Cloud(o.Cloud)}
	if e.Prefix, err = netip.ParsePrefix(o.CIDR); err != nil {
		return e, fmt.Errorf("cidr: %q; want a prefix like 10.0.0.0/8", o.CIDR)
	}
	if o.Name == "" {
		return e, errors.New("name: is missing")
	}
	if o.Class != "" {
		e.Range.Class, err = labeler.ParseConnectionClass(o.Class)
	}
	return e, err
}

// sources are where the providers' ranges are.
func (r *LabelRanges) sources() (all []fetch.Source, err error) {
	for _, p := range slices.Sorted(maps.Keys(r.Files)) {
		all = append(all, fetch.Source{Provider: labeler.Provider(p), File: r.Files[p]})
	}
	for _, p := range slices.Sorted(maps.Keys(r.URLs)) {
		all = append(all, fetch.Source{Provider: labeler.Provider(p), URL: r.URLs[p]})
	}
	seen := map[labeler.Provider]bool{}
	for _, s := range all {
		if !slices.Contains(labeler.Providers(), s.Provider) {
			return nil, fmt.Errorf("ranges: no provider %q; there are %v", s.Provider, labeler.Providers())
		}
		if seen[s.Provider] {
			return nil, fmt.Errorf("ranges: %s has both a file and a URL", s.Provider)
		}
		seen[s.Provider] = true
	}
	return all, nil
}

func (l *Labels) node() string {
	host, _ := os.Hostname()
	return cmp.Or(l.Node, os.Getenv("NODE_NAME"), host)
}

// cluster is the name of the cluster that this machine is in; empty: it is not known.
func (l *Labels) cluster() string {
	if l.Cluster != "" {
		return l.Cluster
	}
	for _, c := range l.Clusters {
		if c.Kubernetes != nil && *c.Kubernetes == (Kubernetes{}) {
			return c.Name
		}
	}
	return ""
}

func (l *Labels) keys() kube.Keys {
	keys := kube.DefaultKeys()
	if len(l.AppKeys) > 0 {
		keys.App = l.AppKeys
	}
	keys.Instance = l.InstanceKeys
	return keys
}
