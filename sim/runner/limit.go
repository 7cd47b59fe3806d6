package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/weirnet/weir/sim/cgroup"
	"github.com/weirnet/weir/sim/spec"
)

// pokeEvery is how often an agent that is to die of its limit is made to ask for memory: with control groups
// of version 1 the kernel kills it then.
const pokeEvery = 5 * time.Millisecond

// confine puts an agent's process into a control group of its own. What the process holds by then is little.
func (p *play) confine(a *actor, pid int) error {
	g, err := cgroup.New(filepath.Base(p.dir))
	if err != nil {
		return err
	}
	p.groups = append(p.groups, g)
	a.group, a.pid = g, pid
	return g.Add(pid)
}

// limit bounds the memory of the agent, which goes on, or is killed by the kernel.
func (p *play) limit(ctx context.Context, s *spec.Step) error {
	if err := p.agent.group.Limit(s.Memory); err != nil {
		return err
	}
	if s.Killed {
		return p.starve(ctx, s.Memory)
	}
	if _, err := p.agent.client.Counters(ctx); err != nil {
		killed, kerr := p.agent.group.Killed()
		return errors.Join(kerr, fmt.Errorf("limit the agent's memory: it does not answer any more, "+
			"%d processes were killed for want of memory: %w", killed, err))
	}
	return nil
}

// starve waits for the agent to be killed, and by nothing but its limit. It may live on what it has, so that
// it gets more and more connections, and less and less memory.
func (p *play) starve(ctx context.Context, memory uint64) error {
	tick := time.NewTicker(pokeEvery)
	defer tick.Stop()
	for ended := false; !ended; {
		if err := p.agent.group.Limit(memory); err != nil {
			return err
		}
		if c, err := net.Dial("unix", p.controlFile()); err == nil { // it may be dead by now
			defer c.Close()
		}
		select {
		case err := <-p.agent.ended:
			p.agent.ended <- err
			ended = true
		case <-ctx.Done():
			return fmt.Errorf("limit the agent's memory: it lives: %w", ctx.Err())
		case <-tick.C:
		}
	}
	p.agent.dead = true
	killed, err := p.agent.group.Killed()
	switch {
	case err != nil:
		return err
	case killed == 0:
		return fmt.Errorf("limit the agent's memory: it has ended, but was not killed for want of memory:\n%s", p.agent.log())
	}
	p.starved = append(p.starved, p.agent.pid)
	return nil
}

// ungroup removes the control groups of agents that have ended, and of sockets.
func (p *play) ungroup() (err error) {
	for _, g := range p.groups {
		err = errors.Join(err, g.Close())
	}
	if p.tree != nil {
		err = errors.Join(err, p.tree.Close())
	}
	return err
}
