package labeler

import "errors"

// Errors of LabelFlow in Strict mode. The default mode labels such flows: none is an error there.
var (
	// ErrInvalidIP: one of the four addresses is missing.
	ErrInvalidIP = errors.New("invalid IP")
	// ErrIPv6Flow: one of the four addresses is an IPv6 address.
	ErrIPv6Flow = errors.New("flow has an IPv6 address")
	// ErrIgnoredUDPFlow: the flow is UDP, which Options.IgnoreUDP leaves out.
	ErrIgnoredUDPFlow = errors.New("UDP flows are ignored")
	// ErrNodeFlow: a node, or a pod in its network namespace, sends in one of the directions.
	ErrNodeFlow = errors.New("flow from or to a node")
	// ErrDirection: neither end can be taken for the local one.
	ErrDirection = errors.New("cannot tell which end of the flow is local")
)

// ErrNodesShareInternalIP is returned when several nodes claim an address.
var ErrNodesShareInternalIP = errors.New("nodes share an internal IP")
