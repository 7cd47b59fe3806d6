package runner

import (
	"fmt"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/nat"
	"github.com/weirnet/weir/sim/oracle"
	"github.com/weirnet/weir/sim/spec"
)

// consult holds the table against the oracle, if the scenario has one.
func (p *play) consult(held []conntrack.Entry) error {
	if p.sc.Oracle == "" {
		return nil
	}
	host := p.sc.Agent.On[0].Host
	var tracked []nat.Connection
	err := p.net.Do(host, func() (err error) {
		tracked, err = nat.Dump()
		return err
	})
	if err != nil {
		return fmt.Errorf("consult the oracle: %w", err)
	}
	p.oracle = oracle.Compare(held, tracked, oracle.Options{Uncounted: p.sc.Expect.Uncounted,
		Header: func(h flow.Hook) uint64 { return linkHeader(p.sc.Topology.Host(host).Interface(h.Interface)) }})
	return nil
}

// linkHeader is the size of an interface's link header, in bytes.
func linkHeader(i *spec.Interface) uint64 {
	const ethernet = 14
	if i.Kind.L3() {
		return 0
	}
	return ethernet
}
