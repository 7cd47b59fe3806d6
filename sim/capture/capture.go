package capture

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// Network is the topology as the capture needs it.
type Network interface {
	// Do runs f on an OS thread inside the host's network namespace.
	Do(host string, f func() error) error
}

// Packet is one frame at one hook.
type Packet struct {
	Hook  flow.Hook // its Namespace is the host's name in the scenario
	Frame []byte    // with all VLAN tags in it, without frame check sequence
}

// Total is what passed one hook.
type Total struct{ Packets, Bytes uint64 }

// Totals adds up the packets of each hook. Bytes are of the whole frames.
func Totals(packets []Packet) map[flow.Hook]Total {
	totals := map[flow.Hook]Total{}
	for _, p := range packets {
		t := totals[p.Hook]
		t.Packets++
		t.Bytes += uint64(len(p.Frame))
		totals[p.Hook] = t
	}
	return totals
}

// Capture hears the watched interfaces. Its methods may be called from any goroutine, one at a
// time.
type Capture struct {
	taps    []*tap          // in the topology's order
	left    map[string]bool // hosts whose taps were closed by Leave
	order   order
	watched map[spec.Port]bool
}

// Open starts to listen on the ports, both directions of each. Where they are in several
// namespaces, all namespaces of the topology are listened to, because the way of a packet from
// one to the other may lead through them. Packets that pass while Open runs may be missed. The
// caller closes the Capture.
func Open(net Network, topology *spec.Topology, ports []spec.Port) (*Capture, error) {
	c := &Capture{order: orderOf(topology), watched: map[spec.Port]bool{}, left: map[string]bool{}}
	hosts := map[string]bool{}
	for _, p := range ports {
		c.watched[p], hosts[p.Host] = true, true
	}
	for i := range topology.Hosts {
		name := topology.Hosts[i].Name
		if !hosts[name] && len(hosts) < 2 {
			continue
		}
		t, err := openTap(net, topology, name, ports)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("capture on host %s: %w", name, err), c.Close())
		}
		c.taps = append(c.taps, t)
	}
	for host := range hosts {
		if !c.hears(host) {
			return nil, errors.Join(fmt.Errorf("capture: there is no host %q", host), c.Close())
		}
	}
	return c, nil
}

func (c *Capture) hears(host string) bool {
	for _, t := range c.taps {
		if t.host == host {
			return true
		}
	}
	return false
}

// Drain returns the packets since the call before, in order. It is called when no packet is
// under way, after the traffic has settled. Its error says that packets may be missing or that
// their order is not known; what it returns with it is not to be trusted.
func (c *Capture) Drain() ([]Packet, error) {
	lists := make([][]event, len(c.taps))
	for i, t := range c.taps {
		var err error
		if lists[i], err = t.drain(); err != nil {
			return nil, fmt.Errorf("capture on host %s: %w", t.host, err)
		}
	}
	events, err := merge(lists, c.order)
	packets := make([]Packet, 0, len(events))
	for _, e := range events {
		if c.watched[e.port] {
			packets = append(packets, Packet{Hook: e.hook(), Frame: e.frame})
		}
	}
	return packets, err
}

// Leave stops listening on a host that is to be deleted. What was not drained is lost.
func (c *Capture) Leave(host string) error {
	at := slices.IndexFunc(c.taps, func(t *tap) bool { return t.host == host })
	if at < 0 {
		return nil
	}
	err := c.taps[at].close()
	c.taps, c.left[host] = slices.Delete(c.taps, at, at+1), true
	return err
}

// Join listens again on a host that is there again.
func (c *Capture) Join(net Network, topology *spec.Topology, host string) error {
	if !c.left[host] {
		return nil
	}
	delete(c.left, host)
	t, err := openTap(net, topology, host, slices.Collect(maps.Keys(c.watched)))
	if err != nil {
		return fmt.Errorf("capture on host %s: %w", host, err)
	}
	number := func(name string) int {
		return slices.IndexFunc(topology.Hosts, func(h spec.Host) bool { return h.Name == name })
	}
	c.taps = append(c.taps, t)
	slices.SortFunc(c.taps, func(a, b *tap) int { return cmp.Compare(number(a.host), number(b.host)) })
	return nil
}

// Close stops listening. It may be called twice.
func (c *Capture) Close() error {
	var errs []error
	for _, t := range c.taps {
		errs = append(errs, t.close())
	}
	c.taps = nil
	return errors.Join(errs...)
}
