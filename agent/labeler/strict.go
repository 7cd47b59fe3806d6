package labeler

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
)

// strictCluster is the remote cluster of every flow in Strict mode.
const strictCluster = "UNKNOWN"

// strictEnd is one end of a flow in Strict mode.
type strictEnd struct {
	at  netip.AddrPort
	pod *Pod // nil: no pod has the address
}

// strictLabel labels a flow as kubenetmon does, step by step.
func (l *Labeler) strictLabel(node string, f *Flow) (FlowData, error) {
	if l.ignoreUDP && f.Protocol == unix.IPPROTO_UDP {
		return FlowData{}, ErrIgnoredUDPFlow
	}
	if err := strictAddresses(f); err != nil {
		return FlowData{}, err
	}
	if is, err := l.isNodeFlow(f); err != nil || is {
		if err == nil {
			err = ErrNodeFlow
		}
		return FlowData{}, err
	}
	src, dst, err := l.strictEnds(f)
	if err != nil {
		return FlowData{}, err
	}
	way := strictDirection(node, src.pod, dst.pod)
	if way == wayUnknown {
		return FlowData{}, fmt.Errorf("%w: %v > %v, reply %v > %v", ErrDirection,
			f.Original.Src, f.Original.Dst, f.Reply.Src, f.Reply.Dst)
	}
	local, remote, out, in := src, dst, &f.Original, &f.Reply
	if way == wayTo {
		local, remote, out, in = dst, src, &f.Reply, &f.Original
	}
	return l.strictData(f, local, remote, out, in)
}

func strictAddresses(f *Flow) error {
	for _, a := range []netip.AddrPort{f.Original.Src, f.Original.Dst, f.Reply.Src, f.Reply.Dst} {
		switch {
		case !a.Addr().IsValid():
			return ErrInvalidIP
		case !a.Addr().Is4():
			return ErrIPv6Flow
		}
	}
	return nil
}

// isNodeFlow tells whether a node sends in one of the directions.
func (l *Labeler) isNodeFlow(f *Flow) (bool, error) {
	for _, a := range []netip.Addr{f.Original.Src.Addr(), f.Reply.Src.Addr()} {
		n, err := l.nodeByInternalIP(a)
		if err != nil || n != nil {
			return n != nil, err
		}
	}
	return false, nil
}

// strictEnds gives the ends with their pods. The sender of the reply is the true destination:
// what destination NAT has done is undone so.
func (l *Labeler) strictEnds(f *Flow) (src, dst strictEnd, err error) {
	src.at, dst.at = f.Original.Src, f.Reply.Src
	for _, e := range []*strictEnd{&src, &dst} {
		pods := l.podsByIP(e.at.Addr(), allPods)
		if len(pods) > 1 {
			return strictEnd{}, strictEnd{}, fmt.Errorf("more than one pod maps to %v: %s/%s and %s/%s",
				e.at.Addr(), pods[0].Namespace, pods[0].Name, pods[1].Namespace, pods[1].Name)
		}
		if len(pods) == 1 {
			e.pod = pods[0]
		}
	}
	return src, dst, nil
}

// way is the direction of a flow, seen from a node.
type way int

const (
	wayUnknown way = iota
	wayFrom        // of a local end to a remote one
	wayTo
	wayBetween // both are local
)

func strictDirection(node string, src, dst *Pod) way {
	on := func(p *Pod) bool { return p != nil && p.Node == node }
	placed := func(p *Pod) bool { return p != nil && p.Node != "" }
	switch {
	case on(src) && on(dst):
		return wayBetween
	case on(src):
		return wayFrom
	case on(dst):
		return wayTo
	case src == nil && placed(dst):
		return wayFrom // an unknown sender is assumed to be local
	case dst == nil && placed(src):
		return wayTo
	}
	return wayUnknown
}

func (l *Labeler) strictData(f *Flow, local, remote strictEnd, out, in *Leg) (FlowData, error) {
	r, class, err := l.remote.strictRemote(remote.at.Addr())
	if err != nil {
		return FlowData{}, err
	}
	mine, theirs := l.strictLabels(local.pod), l.strictLabels(remote.pod)
	theirs.Cluster = strictCluster
	theirs.Cloud, theirs.Region, theirs.CloudService = string(r.Cloud), r.Region, r.Service
	data := FlowData{
		PacketsIn: in.Packets, BytesIn: in.Bytes, PacketsOut: out.Packets, BytesOut: out.Bytes,
		Local:           End{Labels: mine, IP: local.at.Addr(), Port: local.at.Port()},
		Remote:          End{Labels: theirs, IP: remote.at.Addr(), Port: remote.at.Port()},
		ConnectionClass: class, ConnectionFlags: connectionFlags(0),
	}
	if f.Protocol == unix.IPPROTO_TCP || f.Protocol == unix.IPPROTO_UDP {
		data.Proto = protocolName(f.Protocol)
	}
	return data, nil
}

// strictLabels are new for each flow: what they say of the cloud is the flow's.
func (l *Labeler) strictLabels(p *Pod) *flow.Labels {
	if p == nil {
		return &flow.Labels{}
	}
	labels := &flow.Labels{Namespace: p.Namespace, Pod: p.Name, Node: p.Node, App: p.App,
		Instance: p.Instance}
	if n := l.nodeByName(p.Node); n != nil {
		labels.Zone = n.Zone
	}
	return labels
}

// strictLocal tells which addresses kubenetmon takes for the own network.
func strictLocal(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsLoopback() ||
		a.IsLinkLocalMulticast() || localMulticast(a)
}

// localMulticast tells whether an IPv4 group is administratively scoped (RFC 2365) or allocated by
// hosts (RFC 4607: 232/8 but for its first /24).
func localMulticast(a netip.Addr) bool {
	b := a.As4()
	return b[0] == 239 || b[0] == 232 && (b[1] != 0 || b[2] != 0)
}

// strictReplaces are kubenetmon's rules for a prefix that comes more than once. Azure's service
// is compared as it is spelled in the file with what is normalised already, as kubenetmon does.
func strictReplaces(old, by *Range) bool {
	switch by.Cloud {
	case AWS:
		return strictAmazon(by.Service) <= strictAmazon(old.Service)
	case Azure:
		anySystem := by.Service != AzureService && by.Service != AzureCloudService
		noSystem := old.Service == AzureService || old.Service == AzureCloudService
		return noSystem && anySystem || by.Service == AzureStorageService ||
			old.Region == globalRegion && by.Region != globalRegion && old.Service == by.Service
	}
	return true
}

// strictAmazon ranks AWS's services; the lower number wins.
func strictAmazon(service string) int {
	switch service {
	case AmazonS3:
		return -1
	case AmazonService:
		return 1
	case amazonEC2:
		return 2
	}
	return 0
}
