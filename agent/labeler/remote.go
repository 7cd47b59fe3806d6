package labeler

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/weirnet/weir/agent/flow"
)

// RemoteLabeler tells what is known of addresses outside all clusters. It is safe for concurrent
// use.
type RemoteLabeler struct {
	region string
	cloud  Cloud
	strict bool
	ranges atomic.Pointer[Ranges]
}

// RemoteOptions say where the labeler is. Cloud and Region fill in for nodes that do not tell
// theirs.
type RemoteOptions struct {
	Region string
	Cloud  Cloud
	Strict bool
}

// NewRemoteLabeler creates a RemoteLabeler that knows no ranges yet. The options' texts are
// normalised.
func NewRemoteLabeler(o RemoteOptions) *RemoteLabeler {
	return &RemoteLabeler{region: NormalizeCloudString(o.Region), strict: o.Strict,
		cloud: Cloud(NormalizeCloudString(string(o.Cloud)))}
}

// SetRanges replaces the ranges; lookups go on meanwhile.
func (l *RemoteLabeler) SetRanges(r *Ranges) { l.ranges.Store(r) }

// Lookup finds the range of an address.
func (l *RemoteLabeler) Lookup(a netip.Addr) (Range, bool) { return l.ranges.Load().Lookup(a) }

// The ends of which no more than their kind is known.
var (
	privateEnd  = nameless(flow.KindPrivate)
	internetEnd = nameless(flow.KindInternet)
	unknownEnd  = nameless(flow.KindUnknown)
)

func nameless(k flow.Kind) end {
	return end{labels: &flow.Labels{Kind: k}, kind: k, place: &place{}}
}

// outside labels an address that no cluster knows.
func (l *RemoteLabeler) outside(a netip.Addr, k key) end {
	if r := l.ranges.Load().lookup(k); r != nil && a.IsValid() {
		return end{labels: r.labels, kind: r.kind, place: &r.place, rng: r}
	}
	if isPrivate(a) {
		return privateEnd
	}
	return internetEnd
}

// strictRemote is what kubenetmon makes of a remote address: IPv4's private addresses are in the
// own network, whatever the ranges say; of the own cloud a region must be known.
func (l *RemoteLabeler) strictRemote(a netip.Addr) (Range, ConnectionClass, error) {
	if strictLocal(a) {
		return Range{Cloud: l.cloud, Region: l.region}, IntraVPC, nil
	}
	r, _ := l.Lookup(a)
	switch {
	case r.Cloud != l.cloud || r.Cloud == "":
		return r, PublicInternet, nil
	case r.Region == "":
		return r, "", fmt.Errorf("undetermined region in the same %s cloud", r.Cloud)
	case r.Region == globalRegion, r.Region == l.region:
		return r, IntraRegion, nil
	}
	return r, InterRegion, nil
}
