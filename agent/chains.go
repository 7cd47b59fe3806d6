package agent

import (
	"fmt"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/artifact"
	"github.com/weirnet/weir/agent/chain/compat"
	chainprocess "github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/control"
)

// Chains make the agent the owner of this host's chains of programs (docs/chains.md): it puts those in
// place that are not, and serves them on the control socket. They stay in place when it ends.
type Chains struct {
	// State is the folder of the store; empty: chain.DefaultState.
	State string `yaml:"state,omitempty"`
	// Pin is a folder on a bpffs; empty: chain.DefaultPin.
	Pin string `yaml:"pin,omitempty"`
	// Packages is a folder with unpacked packages, for requests as l3afd has them; empty: those are
	// not served.
	Packages string `yaml:"packages,omitempty"`
	// Keys are files with public keys (PEM; Ed25519 or P-256), one of which must have signed every object; empty:
	// no signatures are looked at.
	Keys []string `yaml:"keys,omitempty"`
	// Processes say what user-space parts of members may be.
	Processes Processes `yaml:"processes,omitempty"`
}

// Processes say what user-space parts of members may be: chain files ask, and this allows.
type Processes struct {
	// Allow says that members may have processes; else no file is executed.
	Allow bool `yaml:"allow,omitempty"`
	// Root says that a process may have root's user or group; it has none of root's capabilities.
	Root bool `yaml:"root,omitempty"`
	// Capabilities, like cap_net_raw, are those that a process may ask for.
	Capabilities []string `yaml:"capabilities,omitempty"`
	// Syscalls, like bpf, are those of the refused system calls that a process may ask for.
	Syscalls []string `yaml:"syscalls,omitempty"`
}

// processes are the rules for processes of chains' members; those without chains allow none.
func (c *Config) processes() *chainprocess.Rules {
	if c.Chains == nil {
		return &chainprocess.Rules{}
	}
	p := c.Chains.Processes
	return &chainprocess.Rules{Allow: p.Allow, Root: p.Root, Capabilities: p.Capabilities, Syscalls: p.Syscalls}
}

// startChains takes the chains over. One that cannot be put in place is logged, and stops nothing else.
func (a *Agent) startChains() error {
	if a.cfg.Chains == nil {
		return nil
	}
	keys, err := artifact.ReadKeys(a.cfg.Chains.Keys)
	if err != nil {
		return fmt.Errorf("chains.keys: %w", err)
	}
	m, err := chain.Open(chain.Options{State: a.cfg.Chains.State, Pin: a.cfg.Chains.Pin, Keys: keys,
		Processes: *a.cfg.processes(), Log: a.log, Stages: a})
	if err != nil {
		return fmt.Errorf("chains: %w", err)
	}
	for _, r := range m.Restore() {
		log := a.log.With("chain", r.Key.String(), "generation", r.To)
		switch {
		case r.Err != nil:
			log.Error("chain not restored", "error", r.Err)
		case r.Unchanged():
			log.Info("chain runs")
		default:
			log.Info("chain restored", "was", r.Drift)
		}
		if r.Processes != nil {
			log.Error("processes not started", "error", r.Processes)
		}
	}
	a.chains = api.New(m)
	a.routes = []control.Route{{Path: api.Path, Handler: a.chains}}
	if a.cfg.Chains.Packages != "" {
		c, err := compat.New(a.chains, a.cfg.Chains.Packages)
		if err != nil {
			return fmt.Errorf("chains: %w", err)
		}
		a.routes = append(a.routes, control.Route{Path: compat.Path, Handler: c})
	}
	return nil
}

// endChains lets go of the chains, which stay in place, after a request that is handled.
func (a *Agent) endChains() error {
	if a.chains == nil {
		return nil
	}
	chains := a.chains
	a.chains = nil
	return chains.Close()
}
