package flow

import (
	"cmp"
	"fmt"
	"strings"
)

// Kind says what is known of the owner of an address.
type Kind string

// The kinds.
const (
	KindPod      Kind = "pod"
	KindNode     Kind = "node"     // or a pod in its network namespace
	KindService  Kind = "service"  // a virtual address; which backend it went to was not seen
	KindRange    Kind = "range"    // of the user's address ranges
	KindCloud    Kind = "cloud"    // of a cloud provider's address ranges
	KindPrivate  Kind = "private"  // not routed on the Internet, and nobody claims it
	KindInternet Kind = "internet" // all others
	KindUnknown  Kind = "unknown"  // it cannot be told, see Record.Unlabelled
)

// Labels say who is at one end of a flow. What is not known is empty. One set is shared by all
// records of an owner: it must not be changed.
type Labels struct {
	Kind         Kind   `json:"kind"`
	Cluster      string `json:"cluster,omitempty"`
	Namespace    string `json:"namespace,omitempty"`
	Workload     string `json:"workload,omitempty"` // top of the chain of owners
	WorkloadKind string `json:"workload_kind,omitempty"`
	Pod          string `json:"pod,omitempty"`
	App          string `json:"app,omitempty"`      // value of the first of the app label keys
	Instance     string `json:"instance,omitempty"` // value of the first of the instance label keys
	Service      string `json:"service,omitempty"`  // of KindService
	Node         string `json:"node,omitempty"`
	Zone         string `json:"zone,omitempty"`
	Region       string `json:"region,omitempty"`
	Cloud        string `json:"cloud,omitempty"`
	CloudService string `json:"cloud_service,omitempty"` // e.g. s3
	Name         string `json:"name,omitempty"`          // of the user's address range
}

// String is the name of who it is: "pod shop/web", "node n1", "cloud aws s3", "internet".
func (l *Labels) String() string {
	if l == nil {
		return ""
	}
	name := cmp.Or(l.Name, l.Node)
	switch l.Kind {
	case KindPod:
		name = l.Namespace + "/" + l.Pod
	case KindService:
		name = l.Namespace + "/" + l.Service
	case KindCloud:
		name = strings.TrimSpace(l.Cloud + " " + l.CloudService)
	}
	return strings.TrimSpace(string(l.Kind) + " " + name)
}

// LabelFlags are remarks on how a record was labelled.
type LabelFlags uint8

// The flags.
const (
	// FlagAmbiguous: several owners claim an address at the same time; the latest was taken.
	FlagAmbiguous LabelFlags = 1 << iota
	// FlagServiceInferred: the service's virtual address was not seen, but its backend serves
	// this port.
	FlagServiceInferred
	// FlagServiceAmbiguous: several services have this backend and port; the first by name was
	// taken.
	FlagServiceAmbiguous
	// FlagMirror: the agent on the other end's node reports these packets too. A sum over all
	// nodes leaves mirrors out.
	FlagMirror
)

var labelFlagNames = [...]string{"ambiguous", "service-inferred", "service-ambiguous", "mirror"}

// String joins the names of the flags with "|".
func (f LabelFlags) String() string {
	var names []string
	for i, n := range labelFlagNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, "|")
}

// MarshalText implements encoding.TextMarshaler.
func (f LabelFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It refuses unknown names.
func (f *LabelFlags) UnmarshalText(b []byte) error {
	var all LabelFlags
next:
	for _, n := range strings.FieldsFunc(string(b), func(r rune) bool { return r == '|' }) {
		for i, known := range labelFlagNames {
			if n == known {
				all |= 1 << i
				continue next
			}
		}
		return fmt.Errorf("unknown label flag %q: known are %s", n,
			strings.Join(labelFlagNames[:], " "))
	}
	*f = all
	return nil
}
