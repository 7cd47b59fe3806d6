package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/mix"
)

// maxMixed is how many conversations a mix has at most.
const maxMixed = 1000

// minMixMTU is what every host takes (RFC 791).
const minMixMTU = 576

// hostValue is the name of a host.
var hostValue = match("a host", "client", `^`+hostName+`$`, func(s string) (string, error) { return s, nil })

// rawMix is a mix before its steps are drawn.
type rawMix struct {
	hosts []placed[string]
	flows map[string]int
	seed  uint64
}

// mixObject is a step that stands for others: those that are drawn.
var mixObject = object[rawStep]{
	what: "a mix step", doc: "Random conversations of several protocols, shuffled; the same for the same seed.",
	fields: []field[rawStep]{
		put("mix", "Hosts that talk with one another: [client, server].",
			listOf("hosts", keepPlace(hostValue), 2, MaxHosts),
			func(s *rawStep, v []placed[string]) { s.mixed().hosts = v }).must(),
		put("flows", "How many conversations, by kind: {tcp: 20, udp: 10}.",
			kindsObject.value(),
			func(s *rawStep, v map[string]int) { s.mixed().flows = v }).must(),
		put("seed", "What they are drawn from, 1 by default.", number[uint64](1, 1<<53),
			func(s *rawStep, v uint64) { s.mixed().seed = v }),
		familyField,
	},
}

// kindsObject is how many conversations of each kind there are.
var kindsObject = func() object[map[string]int] {
	o := object[map[string]int]{what: "the kinds"}
	for _, kind := range mix.Kinds {
		o.fields = append(o.fields, put(kind, mixDocs[kind], number[int](0, maxMixed), func(m *map[string]int, n int) {
			if *m == nil {
				*m = map[string]int{}
			}
			(*m)[kind] = n
		}))
	}
	return o
}()

// mixDocs are what the kinds are.
var mixDocs = map[string]string{
	"tcp":       "Connections, whole, refused, unanswered or under way already.",
	"udp":       "Datagrams one way, or questions with answers.",
	"ping":      "ICMP echo, of either family.",
	"dns":       "Lookups over UDP, most of them answered.",
	"sctp":      "Associations.",
	"fragments": "Datagrams in fragments out of order, some incomplete.",
	"errors":    "Datagrams that are answered by ICMP errors.",
}

// mixed is the step's mix, made when it is not there yet.
func (s *rawStep) mixed() *rawMix {
	if s.mix == nil {
		s.mix = &rawMix{seed: 1}
	}
	return s.mix
}

// expand draws the steps of a mix and resolves them, as if the file had them.
func (r *resolver) expand(raw *rawStep) {
	options := mix.Options{Flows: raw.mix.flows, Seed: raw.mix.seed, MTU: r.leastMTU()}
	total := 0
	for _, n := range raw.mix.flows {
		total += n
	}
	if total < 1 || total > maxMixed {
		r.add(raw.at, fmt.Sprintf("has %d conversations", total), fmt.Sprintf("1 to %d are good", maxMixed))
		return
	}
	if options.MTU < minMixMTU {
		r.add(raw.at, fmt.Sprintf("an interface has an MTU of %d", options.MTU), fmt.Sprintf("a mix needs %d", minMixMTU))
		return
	}
	var ok bool
	if options.Pairs, ok = r.mixPairs(raw); !ok {
		return
	}
	drawn, err := readSteps(mix.Draw(options))
	if err != nil {
		r.add(raw.at, "a step that it draws cannot be read: "+err.Error(), "")
		return
	}
	for _, s := range drawn {
		before := len(r.errs)
		s.step.stand(raw.step.Line)
		r.step(s)
		if len(r.errs) > before { // the others have it, too
			e := r.errs[before]
			e.Line, e.Column, e.Key = raw.at.line, raw.at.column, raw.at.key
			r.errs = r.errs[:before+1]
			return
		}
		r.scenario.Steps = append(r.scenario.Steps, s.step)
	}
}

// stand puts a drawn step, with all its lines, where the mix stands.
func (s *Step) stand(line int) {
	s.Line = line
	switch {
	case s.TCP != nil:
		for i := range s.TCP.Script {
			s.TCP.Script[i].Line = line
		}
	case s.UDP != nil:
		for i := range s.UDP.Script {
			s.UDP.Script[i].Line = line
		}
	case s.Packet != nil:
		for i := range s.Packet.Layers {
			s.Packet.Layers[i].Line = line
		}
	}
}

// readSteps reads drawn steps as a file has them.
func readSteps(text []string) ([]*rawStep, error) {
	whole := strings.Join(text, "")
	root, err := parseYAML("drawn", []byte(whole))
	if err != nil {
		return nil, err
	}
	l := &list{file: "drawn", lines: strings.Split(whole, "\n")}
	steps, _ := listOf("steps", stepValue, 1, MaxSteps).read(l, root)
	for i, s := range steps {
		s.step.Text = text[i]
	}
	return steps, l.err()
}

// mixPairs are the pairs of a mix's hosts that have addresses of one family.
func (r *resolver) mixPairs(raw *rawStep) (pairs []mix.Pair, ok bool) {
	var hosts []*Host
	for i, name := range raw.mix.hosts {
		h := r.host(name.at, name.v)
		switch {
		case h == nil:
			return nil, false
		case h.Stack:
			r.add(name.at, fmt.Sprintf("the kernel of %q would answer what is drawn, too", name.v),
				"a mix is between hosts without a stack of the kernel")
			return nil, false
		case slices.Contains(hosts, h):
			r.add(raw.mix.hosts[i].at, fmt.Sprintf("%q is given twice", name.v), "")
			return nil, false
		}
		hosts = append(hosts, h)
	}
	for _, h := range r.scenario.Topology.Hosts {
		if len(h.NAT) > 0 {
			r.add(raw.at, fmt.Sprintf("%q translates addresses, and a mix does not know what servers see", h.Name),
				"write tcp and udp steps with translated")
			return nil, false
		}
	}
	for _, c := range hosts {
		for _, s := range hosts {
			if f := commonFamilies(c, s, raw.family); c != s && len(f) > 0 {
				pairs = append(pairs, mix.Pair{Client: c.Name, Server: s.Name, Families: f})
			}
		}
	}
	if len(pairs) == 0 {
		r.add(raw.at, "no two of the hosts have addresses of one family", "give them some")
	}
	return pairs, len(pairs) > 0
}

// commonFamilies are those that both hosts have, as far as wanted.
func commonFamilies(a, b *Host, wanted string) (all []string) {
	for _, f := range []string{"ipv4", "ipv6"} {
		if (wanted == "" || wanted == f) && a.hasFamily(f == "ipv6") && b.hasFamily(f == "ipv6") {
			all = append(all, f)
		}
	}
	return all
}

func (h *Host) hasFamily(v6 bool) bool {
	return slices.ContainsFunc(h.Interfaces, func(i Interface) bool { return len(ofFamily(i.Addresses, v6)) > 0 })
}

// leastMTU is that of all interfaces.
func (r *resolver) leastMTU() int {
	least := 1500
	for _, h := range r.scenario.Topology.Hosts {
		for _, i := range h.Interfaces {
			if i.MTU > 0 {
				least = min(least, i.MTU)
			}
		}
	}
	return least
}
