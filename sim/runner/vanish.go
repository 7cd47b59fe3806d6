package runner

import (
	"context"

	"github.com/weirnet/weir/sim/spec"
)

// changeHost deletes a host or adds it again, and lets what that causes come to its end. Whoever listens or
// sends in a namespace holds it, so all of that is closed before, and opened anew.
func (p *play) changeHost(ctx context.Context, c *spec.HostChange) error {
	do := p.deleteHost
	if c.Action == "add" {
		do = p.addHost
	}
	if err := do(c); err != nil {
		return err
	}
	return p.engine.Settle(ctx)
}

func (p *play) deleteHost(c *spec.HostChange) error {
	if err := p.capture.Leave(c.Host); err != nil {
		return err
	}
	if p.recorder != nil {
		if err := p.recorder.Leave(c.Host); err != nil {
			return err
		}
	}
	if err := p.engine.Leave(c.Host); err != nil {
		return err
	}
	for _, i := range p.sc.Topology.Host(c.Host).Interfaces {
		port := spec.Port{Host: c.Host, Interface: i.Name}
		p.gone[port] = true
		if peer, ok := p.sc.Topology.Peer(port); ok {
			p.gone[peer] = true
		}
	}
	return p.net.ChangeHost(*c)
}

func (p *play) addHost(c *spec.HostChange) error {
	if err := p.net.ChangeHost(*c); err != nil {
		return err
	}
	if err := p.engine.Join(c.Host); err != nil {
		return err
	}
	if p.recorder != nil {
		if err := p.recorder.Join(p.net, &p.sc.Topology, c.Host); err != nil {
			return err
		}
	}
	if err := p.capture.Join(p.net, &p.sc.Topology, c.Host); err != nil {
		return err
	}
	var err error
	p.namespaces, err = namespaces(p.sc, p.net)
	return err
}
