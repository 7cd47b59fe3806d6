package labeler

import "net/netip"

// Ref names an object of a namespace.
type Ref struct{ Kind, Name string }

// Pod is what is told of a pod.
type Pod struct {
	// UID identifies the pod: another pod of the same name is another pod.
	UID, Namespace, Name string
	Node                 string // "" until it is scheduled
	Addrs                []netip.Addr
	// HostNetwork pods have their node's addresses, and do not own them.
	HostNetwork bool
	// GroupUID is the UID in the names of its control groups; "" is UID. Pods that a kubelet reads from files
	// have another one there than the API server tells.
	GroupUID string
	// Controller is the object that made the pod, e.g. a ReplicaSet; see SetOwner.
	Controller    Ref
	App, Instance string
	// From is when it got its addresses, Until when it gave them back: its containers have all
	// ended. Zero From means not known, zero Until not yet.
	From, Until int64
}

// Node is what is told of a node.
type Node struct {
	UID, Name string
	// Internal addresses are those of Kubernetes' type InternalIP; Others are external ones and
	// the node's own in its pods' network.
	Internal, Others []netip.Addr
	Zone, Region     string
	Cloud            Cloud
	// From is since when it has its addresses; zero: always.
	From int64
}

// Service is what is told of a service. Addrs are cluster IPs, external IPs and load balancers'.
type Service struct {
	Namespace, Name string
	Addrs           []netip.Addr
	Ports           []ServicePort
}

// ServicePort is a port of a service. NodePort is the port on every node, or 0.
type ServicePort struct {
	Protocol uint8 // IANA's number
	Port     uint16
	NodePort uint16
}

// Endpoints are backends of a service: a slice of them, with a name of its own.
type Endpoints struct {
	Namespace, Name string
	Service         string
	Addrs           []netip.Addr
	Ports           []EndpointPort
}

// EndpointPort is a port on which backends serve.
type EndpointPort struct {
	Protocol uint8
	Port     uint16
}
