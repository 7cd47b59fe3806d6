package flow

import "net/netip"

// InterfaceNamer names the hook that has a number in the datapath.
type InterfaceNamer func(hook uint16) Hook

// Names are the names of hooks by number, in order. 0 is no hook.
func (n InterfaceNamer) Names(hooks ...uint16) []Hook {
	var names []Hook
	for _, number := range hooks {
		if number != 0 {
			names = append(names, n(number))
		}
	}
	return names
}

// Decorate returns what adds to records what the kernel does not know: the agent's address, and the names of
// the hooks that saw the packets, the owner first. It asks for the name of a hook once, and most records share a
// few lists of them: a hook may not get another name meanwhile.
func Decorate(agentIP netip.Addr, namer InterfaceNamer) func(r *Record, hooks [4]uint16) {
	known := map[[4]uint16][]Hook{}
	return func(r *Record, hooks [4]uint16) {
		names, ok := known[hooks]
		if !ok {
			names = namer.Names(hooks[:]...)
			known[hooks] = names
		}
		r.AgentIP, r.Seen = agentIP, names
	}
}
