package spec

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
)

// maxMapped is how many addresses of a capture a replay can map.
const maxMapped = 256

// Replay sends the frames of a capture, each from the host that its source address stands for.
type Replay struct {
	File string // pcap or pcapng; relative to the scenario's file
	Map  []Mapped
	// SkipOthers leaves out frames that are not IP, and those with addresses that Map does not name.
	SkipOthers bool
	// Data is what is in the file. Whoever reads the scenario's file reads that as well.
	Data []byte
}

// Mapped is an address of the capture and what it stands for: one of a host's, or one of nobody.
type Mapped struct {
	Was netip.Addr
	Is  Endpoint
}

// rawMapped is a Mapped whose names are not looked up yet.
type rawMapped struct {
	at  *node
	was netip.Addr
	end rawEnd
}

var replayObject = object[rawStep]{
	what: "a replay step", doc: "Sends the frames of a capture, with the topology's addresses.",
	fields: []field[rawStep]{
		put("replay", "The capture, pcap or pcapng; relative to the scenario's file.", captureFile,
			func(s *rawStep, v string) { s.step.Replay.File = v }).must(),
		put("map", "The capture's addresses, and the hosts or addresses that they stand for.", mappedValue,
			func(s *rawStep, v []rawMapped) { s.mapped = v }).must(),
		put("others", "skip leaves out frames that are not IP or whose addresses map does not name; they "+
			"are a mistake by default.", choice("skip"),
			func(s *rawStep, v string) { s.step.Replay.SkipOthers = v == "skip" }),
	},
}

var captureFile = match("the path of a capture", "dns.pcapng", `^[^/\\].*\.(pcap|pcapng)$`,
	func(s string) (string, error) { return path.Clean(s), nil })

var mappedValue = value[[]rawMapped]{
	schema: schema{"type": "object", "minProperties": 1, "maxProperties": maxMapped,
		"additionalProperties": endValue.schema},
	read: func(l *list, n *node) (all []rawMapped, ok bool) {
		if n.kind != mapKind || len(n.pairs) == 0 || len(n.pairs) > maxMapped {
			l.add(n, "want addresses of the capture and what they stand for",
				"write {192.168.1.7: client, 192.168.1.1: server}")
			return nil, false
		}
		ok = true
		for _, p := range n.pairs {
			was, err := netip.ParseAddr(p.key.text)
			if err != nil || was.Zone() != "" || was.Is4In6() {
				l.add(p.key, fmt.Sprintf("%q is no address", shorten(p.key.text)), "write 192.168.1.7: client")
				ok = false
				continue
			}
			end, good := endValue.read(l, p.value)
			all, ok = append(all, rawMapped{p.key, was, end}), ok && good
		}
		return all, ok
	},
}

// replayStep looks up what the capture's addresses stand for.
func (r *resolver) replayStep(raw *rawStep) {
	s := raw.step.Replay
	for _, m := range raw.mapped {
		is, ok := r.standsFor(m)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(s.Map, func(o Mapped) bool { return o.Is.Addr == is.Addr }); i >= 0 {
			r.add(m.end.at, fmt.Sprintf("%s stands for %s already", s.Map[i].Was, is.Addr),
				"two that become one cannot be told apart; add another address")
			continue
		}
		s.Map = append(s.Map, Mapped{m.was, is})
	}
}

// standsFor is the first address of an endpoint that is of the capture's family.
func (r *resolver) standsFor(m rawMapped) (Endpoint, bool) {
	if !r.noPort(m.end, "a capture's packets have their own") {
		return Endpoint{}, false
	}
	addresses, ok := r.candidates(m.end)
	if !ok {
		return Endpoint{}, false
	}
	fit := ofFamily(addresses, m.was.Is6())
	if len(fit) == 0 {
		r.add(m.end.at, fmt.Sprintf("%q has no address of the family of %s", m.end.at.text, m.was), "")
		return Endpoint{}, false
	}
	host, ok := r.owner(m.end, "")
	return Endpoint{Host: host, Addr: fit[0].Addr()}, ok
}
