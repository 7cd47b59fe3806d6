package coverage

import (
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/spec"
)

// columns are the topologies, as topologies names them.
var columns = []string{"one link", "router", "bridge", "VLAN", "tunnel", "translation", "other devices"}

// topologies are what a topology consists of beyond hosts and links, or "one link".
func topologies(t *spec.Topology) []string {
	has := map[string]bool{"bridge": len(t.Bridges) > 0}
	for _, h := range t.Hosts {
		has["router"] = has["router"] || h.Forward
		has["translation"] = has["translation"] || len(h.NAT) > 0
		for _, i := range h.Interfaces {
			switch {
			case i.Kind == spec.VLANDev:
				has["VLAN"] = true
			case i.Tunnel != nil:
				has["tunnel"] = true
			case i.Kind != spec.Cable && i.Kind != spec.BridgeDev:
				has["other devices"] = true
			}
		}
	}
	var all []string
	for _, c := range columns {
		if has[c] {
			all = append(all, c)
		}
	}
	if all == nil {
		return columns[:1]
	}
	return all
}

// flowEvents are what a reported flow tells of itself.
func flowEvents(f *golden.Flow) []string {
	all := []string{"state: " + f.State, "end: " + f.End}
	for event, is := range map[string]bool{
		"begun before it was watched": f.Initiator == golden.InitiatorUnknown,
		"ICMP error about it":         f.ICMPError != "",
		"is an ICMP error":            f.Cites != "",
		"address translation seen":    f.NATBefore != golden.Ends{} || f.NATAfter != golden.Ends{},
		"round-trip time":             f.RTT != "",
		"handshake time":              f.Handshake != "",
		"DNS lookup":                  f.Lookups != "",
		"labelled":                    f.Who != golden.Who{},
		"seen by several hooks":       len(f.Seen) > 1,
	} {
		if is {
			all = append(all, event)
		}
	}
	return all
}

// lossEvents are the reasons for which packets are lost or left out.
func lossEvents(want *golden.Golden) (all []string) {
	for _, h := range want.Counters {
		for reason := range h.Lost {
			all = append(all, "lost: "+reason)
		}
		for reason := range h.LeftOut {
			all = append(all, "left out: "+reason)
		}
	}
	return all
}

// agentEvents are the agent's settings that are not the usual ones.
func agentEvents(sc *spec.Scenario) (all []string) {
	a := &sc.Agent
	for event, is := range map[string]bool{
		"table full: " + a.TableFull: a.TableFull != "",
		"hook: " + a.Hook:            a.Hook != "",
		"sweep: " + a.Sweep:          a.Sweep != "",
		"filters":                    len(a.Filters.Rules) > 0 || a.Filters.Default != "",
		"sample":                     a.Sample != 1,
		"zones":                      len(a.Zones) > 0,
		"no picking up":              !a.MidStream,
		"oracle: " + sc.Oracle:       sc.Oracle != "",
		"tables of an older layout":  a.Layout != 0,
	} {
		if is {
			all = append(all, event)
		}
	}
	for _, kind := range a.Tunnels {
		all = append(all, "inside "+kind)
	}
	for _, f := range a.Features {
		all = append(all, "feature: "+f)
	}
	return all
}

// stepEvents are what the steps make happen.
func stepEvents(sc *spec.Scenario) (all []string) {
	for _, s := range sc.Steps {
		if s.Text != "" {
			all = append(all, "random mix")
		}
		switch {
		case s.Agent != "":
			all = append(all, "agent: "+s.Agent)
		case s.Link != nil:
			all = append(all, "link: "+s.Link.Action)
		case s.Host != nil:
			all = append(all, "host: "+s.Host.Action)
		case s.Impair != nil:
			all = append(all, impairments(s.Impair)...)
		case s.Advance > 0:
			all = append(all, "time passes")
		case s.Socket != nil:
			all = append(all, "real sockets")
		case s.Burst != nil:
			all = append(all, "random flows")
		case s.Replay != nil:
			all = append(all, "replayed capture")
		case s.Packet != nil:
			all = append(all, packetEvents(s.Packet)...)
		}
	}
	return all
}

func impairments(i *spec.Impair) (all []string) {
	for event, is := range map[string]bool{
		"drop":      len(i.Drop) > 0 || i.Random.Drop > 0,
		"duplicate": len(i.Duplicate) > 0 || i.Random.Duplicate > 0,
		"reorder":   len(i.Swap) > 0 || i.Random.Reorder > 0,
		"corrupt":   len(i.Corrupt) > 0 || i.Random.Corrupt > 0,
	} {
		if is {
			all = append(all, "link: "+event)
		}
	}
	return all
}

func packetEvents(p *spec.Packet) (all []string) {
	if p.Fragments != nil {
		all = append(all, "fragments")
	}
	if p.To.Addr.IsMulticast() {
		all = append(all, "multicast")
	}
	if p.To.Host == "" && p.To.Addr.Is4() && p.To.Addr.As4()[3] == 255 {
		all = append(all, "broadcast")
	}
	return all
}
