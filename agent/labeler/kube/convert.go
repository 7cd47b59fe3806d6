package kube

import (
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/labeler"
)

// Labels of Kubernetes ("Well-Known Labels, Annotations and Taints").
const (
	zoneLabel      = "topology.kubernetes.io/zone"
	regionLabel    = "topology.kubernetes.io/region"
	oldZoneLabel   = "failure-domain.beta.kubernetes.io/zone"
	oldRegionLabel = "failure-domain.beta.kubernetes.io/region"
	serviceLabel   = "kubernetes.io/service-name"
)

// pod says what the labeler wants to know; now is when a pod has ended that does not tell.
func (k *Keys) pod(p *pod, now int64) labeler.Pod {
	m := &p.Metadata
	out := labeler.Pod{UID: m.UID, GroupUID: m.Annotations.ConfigHash, Namespace: m.Namespace, Name: m.Name, Node: p.Spec.Node,
		HostNetwork: p.Spec.HostNetwork, Controller: controller(m.Owners), App: p.first(k.App),
		Instance: p.first(k.Instance), From: p.began(), Addrs: appendAddr(nil, p.Status.IP)}
	for _, ip := range p.Status.IPs {
		out.Addrs = appendAddr(out.Addrs, ip.IP)
	}
	if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		out.Until = max(p.ended(now), out.From)
	}
	return out
}

// began is when the pod got its addresses: its sandbox was ready (a condition since Kubernetes
// 1.29), or else the kubelet took it on.
func (p *pod) began() int64 {
	at := p.Status.Start
	if at.IsZero() {
		at = p.Metadata.Created
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "PodReadyToStartContainers" && c.Status == "True" && !c.Since.IsZero() {
			at = c.Since
		}
	}
	return nanos(at)
}

// ended is when the last of its containers did.
func (p *pod) ended(now int64) int64 {
	var last int64
	for _, c := range p.Status.Containers {
		last = max(last, nanos(c.State.Terminated.Finished))
	}
	if last == 0 {
		return now
	}
	return last
}

// nanos is 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// controller is the owner that manages an object. A node is none: it owns the pods that its
// kubelet reads from files.
func controller(owners []reference) labeler.Ref {
	for _, o := range owners {
		if o.Controller && o.Kind != "Node" {
			return labeler.Ref{Kind: o.Kind, Name: o.Name}
		}
	}
	return labeler.Ref{}
}

func convertNode(n *node) labeler.Node {
	out := labeler.Node{UID: n.Metadata.UID, Name: n.Metadata.Name,
		Zone:   n.first([]string{zoneLabel, oldZoneLabel}),
		Region: n.first([]string{regionLabel, oldRegionLabel}),
		Cloud:  labeler.CloudOfProvider(n.Spec.Provider), From: nanos(n.Metadata.Created)}
	for _, a := range n.Status.Addresses {
		switch a.Type {
		case "InternalIP":
			out.Internal = appendAddr(out.Internal, a.Address)
		case "ExternalIP":
			out.Others = appendAddr(out.Others, a.Address)
		}
	}
	for _, text := range n.Spec.PodCIDRs {
		// A node's own address among its pods is the first one of their network; that of an
		// overlay's interface is the network's.
		if p, err := netip.ParsePrefix(text); err == nil {
			out.Others = append(out.Others, p.Masked().Addr(), p.Masked().Addr().Next())
		}
	}
	return out
}

func convertService(s *service) labeler.Service {
	out := labeler.Service{Namespace: s.Metadata.Namespace, Name: s.Metadata.Name}
	for _, ip := range s.Spec.ClusterIPs {
		out.Addrs = appendAddr(out.Addrs, ip) // not "None", of a headless one
	}
	for _, ip := range s.Spec.ExternalIPs {
		out.Addrs = appendAddr(out.Addrs, ip)
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		out.Addrs = appendAddr(out.Addrs, in.IP)
	}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, labeler.ServicePort{Protocol: protocol(p.Protocol),
			Port: p.Port, NodePort: p.NodePort})
	}
	return out
}

// convertSlice takes all endpoints, also those that are going: they still serve connections.
func convertSlice(s *endpointSlice) labeler.Endpoints {
	out := labeler.Endpoints{Namespace: s.Metadata.Namespace, Name: s.Metadata.Name,
		Service: s.Metadata.Labels[serviceLabel]}
	for _, e := range s.Endpoints {
		for _, a := range e.Addresses {
			out.Addrs = appendAddr(out.Addrs, a)
		}
	}
	for _, p := range s.Ports {
		if p.Port != 0 { // else all ports, which tells no service
			out.Ports = append(out.Ports, labeler.EndpointPort{Protocol: protocol(p.Protocol), Port: p.Port})
		}
	}
	return out
}

// protocol defaults to TCP, as Kubernetes does.
func protocol(name string) uint8 {
	switch strings.ToUpper(name) {
	case "UDP":
		return unix.IPPROTO_UDP
	case "SCTP":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// appendAddr appends what is an address.
func appendAddr(all []netip.Addr, text string) []netip.Addr {
	if a, err := netip.ParseAddr(text); err == nil {
		return append(all, a)
	}
	return all
}
