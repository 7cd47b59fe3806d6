package reach

import (
	"net/netip"
	"slices"

	"github.com/weirnet/weir/sim/spec"
)

// sendUpper follows a frame out of an interface that stands on another one.
func (w *walk) sendUpper(i *spec.Interface, mac [6]byte, vlans []uint16) {
	if w.ToAll {
		w.Complete = false // the kernel has copies for whoever stands there
	}
	to, ok := w.upper(i.On, mac)
	switch {
	case !ok:
		w.send(i.On, mac, vlans)
	case i.Kind == spec.IPVLAN:
		w.take(to, vlans)
	default: // the kernel has it come in below
		w.arrive(i.On, mac, vlans)
	}
}

// upper finds who, of those that stand on an interface, a frame is for.
func (w *walk) upper(on spec.Port, mac [6]byte) (to spec.Port, ok bool) {
	for _, h := range w.topology.Hosts {
		for _, i := range h.Interfaces {
			owns := func(p netip.Prefix) bool { return p.Addr() == w.to }
			if i.On == on && i.MAC == mac && (i.Kind != spec.IPVLAN || slices.ContainsFunc(i.Addresses, owns)) {
				return spec.Port{Host: h.Name, Interface: i.Name}, true
			}
		}
	}
	return to, false
}

// sendDevice follows a packet into a tunnel or a bond. What the kernel makes of it below, and
// which way it chooses there, is its own.
func (w *walk) sendDevice(host string, i *spec.Interface, mac [6]byte, vlans []uint16) {
	w.Complete = false
	if i.Bond != nil {
		w.send(spec.Port{Host: host, Interface: i.Bond.Members[0]}, mac, vlans)
		return
	}
	w.take(w.topology.OtherEnd(i), nil)
}
