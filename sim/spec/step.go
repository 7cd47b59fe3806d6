package spec

import (
	"fmt"
	"time"

	"github.com/weirnet/weir/agent/spelling"
)

// Bounds on traffic.
const (
	MaxSteps   = 10_000
	MaxPackets = 2_000_000 // of all steps together, real sockets aside
	maxFlows   = 1_000_000
	maxPerFlow = 10_000
	maxBytes   = 1 << 30 // of one real socket
	maxPayload = 65535
	maxVLANs   = 4
	maxLayers  = 32
	maxAdvance = 366 * 24 * time.Hour
	// maxFragments is how many the longest packet has, 8 bytes in each.
	maxFragments = maxPayload/8 + 1
)

// rawStep is a step whose names are not looked up yet.
type rawStep struct {
	at   *node
	step Step
	pair *rawPair // of steps that have one
	// translated is the pair as the server sees it, where addresses are translated on the way.
	translated *rawPair
	family     string // "ipv4", "ipv6" or "" for what fits
	port       placed[Port]
	host       placed[string]
	mapped     []rawMapped // of a replay
	ending     *node       // of real sockets
	group      *node       // likewise, the client's
	mix        *rawMix     // stands for other steps
	isns       [2]bool     // the file gives the client's, the server's ISN
}

// variant is one kind of step, told by the key that all of its kind have.
type variant struct {
	key    string
	nested bool        // the key's value is a mapping, not a text
	begin  func(*Step) // sets the defaults
	object object[rawStep]
}

// variants are all kinds of steps.
var variants = []variant{
	{"tcp", false, func(s *Step) { s.TCP = &TCP{} }, tcpObject},
	{"tcp", true, func(s *Step) { s.Socket = &Socket{Network: "tcp"} }, socketForm("tcp")},
	{"udp", false, func(s *Step) { s.UDP = &UDP{} }, udpObject},
	{"udp", true, func(s *Step) { s.Socket = &Socket{Network: "udp"} }, socketForm("udp")},
	{"packet", false, func(s *Step) { s.Packet = &Packet{Count: 1} }, packetObject},
	{"ping", false, func(s *Step) {
		s.Ping = &Ping{ID: 1, Count: 1, Payload: 56, Reply: true}
	}, pingObject},
	{"burst", false, func(s *Step) { s.Burst = &Burst{Packets: 1, Seed: 1} }, burstObject},
	{"mix", false, func(*Step) {}, mixObject},
	{"socket", false, func(s *Step) { s.Socket = &Socket{} }, socketObject},
	{"replay", false, func(s *Step) { s.Replay = &Replay{} }, replayObject},
	{"advance", false, func(*Step) {}, advanceObject},
	{"agent", false, func(*Step) {}, agentStepObject},
	{"link", true, func(*Step) {}, linkObject},
	{"host", true, func(*Step) {}, hostStepObject},
	{"impair", false, func(s *Step) { s.Impair = &Impair{} }, impairObject},
}

// stepValue reads a step of any kind.
var stepValue = value[*rawStep]{schema: stepSchema(), read: readStep}

func stepSchema() schema {
	var all []schema
	for _, v := range variants {
		all = append(all, v.object.schema())
	}
	return schema{"oneOf": all}
}

func stepKeys() []string {
	var keys []string
	for _, v := range variants {
		if len(keys) == 0 || keys[len(keys)-1] != v.key {
			keys = append(keys, v.key)
		}
	}
	return keys
}

func readStep(l *list, n *node) (*rawStep, bool) {
	v, ok := findVariant(l, n)
	if !ok {
		return nil, false
	}
	s := &rawStep{at: n, step: Step{Line: n.line}}
	for _, p := range n.pairs {
		if p.key.text == v.key {
			s.at = p.key
		}
	}
	v.begin(&s.step)
	before := len(l.errs)
	v.object.read(l, n, s)
	return s, len(l.errs) == before
}

// findVariant tells the kind of a step by its keys.
func findVariant(l *list, n *node) (variant, bool) {
	if n.kind != mapKind {
		l.add(n, fmt.Sprintf("want a step, got %s", n.what()),
			"a step is a mapping, like - tcp: client:40000 > server:80")
		return variant{}, false
	}
	var found *variant
	for _, p := range n.pairs {
		v := variantOf(p)
		switch {
		case v == nil || found != nil && keyBelongs(found, p.key.text):
		case found == nil || keyBelongs(v, found.key):
			found = v
		default:
			l.add(p.key, fmt.Sprintf("the step is a %s step already", found.key),
				"a step does one thing; begin another with -")
			return variant{}, false
		}
	}
	if found != nil {
		return *found, true
	}
	for _, p := range n.pairs {
		if near := spelling.Nearest(p.key.text, stepKeys()); near != "" {
			l.add(p.key, "unknown kind of step", fmt.Sprintf("did you mean %q?", near))
			return variant{}, false
		}
	}
	l.add(n, "the step has no kind", suggest("", stepKeys()))
	return variant{}, false
}

func variantOf(p pair) *variant {
	var found *variant
	for i, v := range variants {
		if v.key == p.key.text && (found == nil || v.nested == (p.value.kind == mapKind)) {
			found = &variants[i]
		}
	}
	return found
}

// keyBelongs tells whether the key is a field of that kind of step.
func keyBelongs(v *variant, key string) bool {
	for _, f := range v.object.fields {
		if f.name == key && key != v.key {
			return true
		}
	}
	return false
}

// pairField is the key that tells the kind of the step, with "from > to".
func pairField(name, doc string) field[rawStep] {
	return put(name, doc, pairValue, func(s *rawStep, p rawPair) { s.pair = &p }).must()
}

var familyField = put("family", "The family of the addresses, when both hosts have both; "+
	"ipv4 by default.", choice("ipv4", "ipv6"), func(s *rawStep, v string) { s.family = v })
