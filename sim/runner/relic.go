package runner

import (
	"errors"
	"fmt"

	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/bpf/relic"
)

// leaveRelic sets the stage with what a killed agent of an older layout has left.
func (p *play) leaveRelic() error {
	cfg := p.config()
	opts, err := cfg.DatapathOptions()
	if err != nil {
		return err
	}
	left, err := relic.Leave(relic.Options{Pin: p.pin(), Table: opts.Table, Lifetimes: opts.Lifetimes[:],
		Overflow: opts.Overflow, Now: p.now})
	if err != nil {
		return fmt.Errorf("leave an older datapath: %w", err)
	}
	for i, on := range cfg.Interfaces {
		err = errors.Join(err, ifaces.Do(on.Namespace, func() error {
			found, err := ifaces.Find(on.Namespace, on.Name)
			if err != nil {
				return err
			}
			ingress := relic.Hook{Number: uint16(2*i + 1), Interface: found.Index, Namespace: found.Inode}
			egress := relic.Hook{Number: uint16(2*i + 2), Interface: found.Index, Namespace: found.Inode, Egress: true}
			return errors.Join(left.Attach(ingress), left.Attach(egress))
		}))
	}
	p.agent = &actor{dead: true, logs: &logBuffer{}}
	return errors.Join(err, left.Close())
}
