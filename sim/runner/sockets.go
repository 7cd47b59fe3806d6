package runner

import (
	"net/netip"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/sockets"
	"github.com/weirnet/weir/sim/cgroup"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/spec"
)

// In implements traffic.Groups: with groups of this run's own.
func (p *play) In(path string, f func() error) (err error) {
	if p.tree == nil {
		if p.tree, err = cgroup.NewTree(filepath.Base(p.dir)); err != nil {
			return err
		}
	}
	return p.tree.In(path, f)
}

// holdSockets tells the model whose sockets a step's are, if the agent has the feature that learns it.
func (p *play) holdSockets(s *spec.Socket) {
	if s == nil || p.cluster == nil || !slices.Contains(p.sc.Agent.Features, sockets.Feature) {
		return
	}
	protocol := uint8(unix.IPPROTO_UDP)
	if s.Network == "tcp" {
		protocol = unix.IPPROTO_TCP
	}
	for _, end := range []struct {
		at    spec.Endpoint
		group string
	}{{s.From, s.ClientGroup}, {s.To, s.ServerGroup}} {
		p.cluster.Hold(model.Socket{Protocol: protocol, Addrs: p.addresses(end.at.Host), Port: end.at.Port,
			Group: end.group, From: p.now})
	}
}

// addresses are all of a host's.
func (p *play) addresses(host string) (all []netip.Addr) {
	for _, i := range p.sc.Topology.Host(host).Interfaces {
		for _, a := range i.Addresses {
			all = append(all, a.Addr())
		}
	}
	return all
}
