package spec

import (
	"errors"
	"fmt"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf"
)

// rawRule is a rule of a filter as the file has it. The agent's own reader judges it: the language
// is the same in both files.
type rawRule struct {
	rule agent.FilterRule
	at   map[string]*node // by key
}

// judged is a text, or a number that stands for one, that the agent will judge. The pattern is for
// editors.
func judged(pattern string, examples ...string) value[placed[string]] {
	s := schema{"type": []string{"string", "integer"}, "minLength": 1, "minimum": 0,
		"pattern": pattern, "examples": examples}
	return value[placed[string]]{schema: s, read: func(l *list, n *node) (placed[string], bool) {
		if !scalar(l, n, "a word or a number") {
			return placed[string]{}, false
		}
		if n.text == "" {
			l.add(n, "has 0 characters", "leave the key out")
			return placed[string]{}, false
		}
		return placed[string]{n.text, n}, true
	}}
}

// ruleWord makes a field of a rule.
func ruleWord(name, doc string, v value[placed[string]],
	to func(*agent.FilterRule) *string) field[rawRule] {
	return put(name, doc, v, func(r *rawRule, w placed[string]) {
		*to(&r.rule) = w.v
		r.place(name, w.at)
	})
}

func (r *rawRule) place(key string, at *node) {
	if r.at == nil {
		r.at = map[string]*node{}
	}
	r.at[key] = at
}

// Patterns that hold for whatever the agent takes.
const (
	prefixPattern = `^` + addressPattern + `(/[0-9]{1,3})?$`
	portsPattern  = `^[0-9]+(-[0-9]+)?$`
	icmpPattern   = `^[0-9]+(/[0-9]+)?$`
	flagsPattern  = `^[^/]+/[^/]+$`
)

var ruleObject = object[rawRule]{
	what: "a rule",
	doc:  "Matches packets that have all that it names; the first one that matches decides.",
	fields: []field[rawRule]{
		put("action", "What becomes of packets that match.", keepPlace(choice("accept", "reject")),
			func(r *rawRule, v placed[string]) { r.rule.Action = v.v; r.place("action", v.at) }).must(),
		put("family", "IP version; a prefix says it, too.", keepPlace(ipVersion),
			func(r *rawRule, v placed[uint8]) { r.rule.Family = v.v; r.place("family", v.at) }),
		ruleWord("protocol", "tcp, udp, icmp, icmpv6, sctp, or a number.",
			judged(`^(tcp|udp|icmp|icmpv6|sctp|[0-9]+)$`, "udp"),
			func(r *agent.FilterRule) *string { return &r.Protocol }),
		ruleWord("src", "Prefix of the source, or one address.", judged(prefixPattern, "10.0.0.0/8"),
			func(r *agent.FilterRule) *string { return &r.Src }),
		ruleWord("dst", "Prefix of the destination, or one address.",
			judged(prefixPattern, "2001:db8::/32"),
			func(r *agent.FilterRule) *string { return &r.Dst }),
		ruleWord("src_port", "Source port, or a range.", judged(portsPattern, "53", "8000-9000"),
			func(r *agent.FilterRule) *string { return &r.SrcPort }),
		ruleWord("dst_port", "Destination port, or a range.", judged(portsPattern, "53", "8000-9000"),
			func(r *agent.FilterRule) *string { return &r.DstPort }),
		ruleWord("tcp_flags", "match/mask: those of the mask that are set are exactly the match.",
			judged(flagsPattern, "SYN/SYN|ACK"),
			func(r *agent.FilterRule) *string { return &r.TCPFlags }),
		ruleWord("icmp", "Type, or type/code.", judged(icmpPattern, "3/1"),
			func(r *agent.FilterRule) *string { return &r.ICMP }),
		put("either", "Matches with source and destination exchanged as well.", boolean(),
			func(r *rawRule, v bool) { r.rule.Either = v }),
	},
}

var ipVersion = value[uint8]{schema: schema{"enum": []int{4, 6}},
	read: func(l *list, n *node) (uint8, bool) {
		v, ok := wholeNumber(n)
		if n.kind != scalarKind || !ok || v != 4 && v != 6 {
			l.add(n, fmt.Sprintf("want 4 or 6, got %s", n.what()), "")
			return 0, false
		}
		return uint8(v), true
	}}

// ruleValue is a rule that the agent takes; what the agent says of a key has the key's place.
var ruleValue = value[agent.FilterRule]{schema: ruleObject.schema(),
	read: func(l *list, n *node) (agent.FilterRule, bool) {
		raw, ok := ruleObject.value().read(l, n)
		if !ok {
			return raw.rule, false
		}
		_, err := raw.rule.Compile()
		var wrong *agent.RuleError
		if errors.As(err, &wrong) {
			at := raw.at[wrong.Key]
			if at == nil {
				at = n
			}
			l.add(at, wrong.Msg, wrong.Hint)
		}
		return raw.rule, err == nil
	}}

var filtersObject = object[agent.Filters]{
	what: "the filters",
	doc:  "Which packets are counted; all by default.",
	fields: []field[agent.Filters]{
		put("default", "What becomes of packets that no rule matches; accept by default.",
			choice("accept", "reject"), func(f *agent.Filters, v string) { f.Default = v }),
		put("rules", "The first rule that matches a packet decides.",
			listOf("rules", ruleValue, 0, bpf.MaxRules),
			func(f *agent.Filters, v []agent.FilterRule) { f.Rules = v }),
	},
}
