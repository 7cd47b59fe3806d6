package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/spelling"
)

// FlowMap says what a program calls our terms in its lines of JSON.
type FlowMap struct {
	File             string
	Src, Dst         Term
	SrcPort, DstPort Term
	Protocol         Term // a number, or a name
	Packets, Bytes   Term
	// LinkBytes is how many bytes of each packet the program does not count, because it counts from
	// the IP header on: 14 for Ethernet without tags.
	LinkBytes uint64
	// Only selects lines: the named fields have these values. Others are not about flows.
	Only map[string]string
}

// Term is what the program calls one of our terms: the first of the names that a line has.
type Term struct {
	Key   string   // ours
	Names []string // theirs; a dot leads into nested objects. None: the map does not say.
	Line  int      // of the map
}

// Bounds on maps.
const (
	maxNames     = 16
	maxLinkBytes = 256
	maxOnly      = 16
)

// termNames takes one name for a list of one.
func termNames() value[Term] {
	one := str("a field's name", maxSummary)
	many := listOf("names", one, 1, maxNames)
	return value[Term]{read: func(l *list, n *node) (Term, bool) {
		t := Term{Key: n.key, Line: n.line}
		if n.kind == listKind {
			names, ok := many.read(l, n)
			t.Names = names
			return t, ok
		}
		name, ok := one.read(l, n)
		t.Names = []string{name}
		return t, ok
	}}
}

// term is a key of a map.
func term(name, doc string, to func(*FlowMap) *Term) field[FlowMap] {
	return put(name, doc, termNames(), func(m *FlowMap, t Term) { *to(m) = t })
}

var flowMapObject = object[FlowMap]{
	what: "a map",
	fields: []field[FlowMap]{
		term("src", "What the program calls the source address.",
			func(m *FlowMap) *Term { return &m.Src }).must(),
		term("dst", "What the program calls the destination address.",
			func(m *FlowMap) *Term { return &m.Dst }).must(),
		term("src_port", "What it calls the source port.", func(m *FlowMap) *Term { return &m.SrcPort }),
		term("dst_port", "What it calls the destination port.", func(m *FlowMap) *Term { return &m.DstPort }),
		term("protocol", "What it calls the protocol.", func(m *FlowMap) *Term { return &m.Protocol }).must(),
		term("packets", "What it calls the number of packets.",
			func(m *FlowMap) *Term { return &m.Packets }).must(),
		term("bytes", "What it calls the number of bytes.", func(m *FlowMap) *Term { return &m.Bytes }),
		put("link_bytes", "Bytes of each packet that it does not count.", number[uint64](0, maxLinkBytes),
			func(m *FlowMap, n uint64) { m.LinkBytes = n }),
		put("only", "Fields and values of the lines that are about flows.", onlyFields,
			func(m *FlowMap, only map[string]string) { m.Only = only }),
	},
}

// onlyFields reads what selects lines.
var onlyFields = value[map[string]string]{read: func(l *list, n *node) (map[string]string, bool) {
	if n.kind != mapKind || len(n.pairs) > maxOnly {
		l.add(n, fmt.Sprintf("want fields and their values, at most %d, got %s", maxOnly, n.what()),
			"write {type: flow}")
		return nil, false
	}
	only, good := map[string]string{}, true
	for _, p := range n.pairs {
		good = scalar(l, p.value, "a value") && good
		only[p.key.text] = p.value.text
	}
	return only, good
}}

// ParseFlowMap reads a map; file is its path, for errors. A mistake in it is an *Error; several are
// Errors.
func ParseFlowMap(file string, data []byte) (*FlowMap, error) {
	root, err := parseYAML(file, data)
	var mistake *Error
	if errors.As(err, &mistake) && mistake.Hint == emptyHint {
		mistake.Hint = "a map needs src, dst, protocol and packets"
	}
	if err != nil {
		return nil, err
	}
	l := &list{file: file}
	m := &FlowMap{File: file}
	flowMapObject.read(l, root, m)
	if err := l.err(); err != nil {
		return nil, err
	}
	return m, nil
}

// maxHinted bounds the names that a hint lists.
const maxHinted = 12

// Hint is what would be right where none of a term's names is among those that a line has.
func (t Term) Hint(known []string) string {
	for _, n := range t.Names {
		if near := spelling.Nearest(n, known); near != "" {
			return fmt.Sprintf("did you mean %q?", near)
		}
	}
	slices.Sort(known)
	return "known: " + strings.Join(known[:min(len(known), maxHinted)], ", ")
}
