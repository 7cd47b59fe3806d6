package spec

import "net/netip"

// NextHop is the host's routing decision for an address: the interface to send over, and the next
// address on the way, which is the destination itself when it is on the link. The interface is
// nil when there is no route.
func (t *Topology) NextHop(h *Host, to netip.Addr) (*Interface, netip.Addr) {
	return (&network{topology: t}).lookup(h, to)
}
