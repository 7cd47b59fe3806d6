// Package foreign judges the flows that a program of somebody else has written: lines of JSON,
// translated into weir's terms by a small file, and compared with the reference model.
package foreign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/spec"
)

// Map reads a program's lines, and compares them with the truth.
type Map spec.FlowMap

// Key is one direction of a connection.
type Key struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16 // 0 for protocols without ports
	Protocol         uint8
}

// hasPorts tells the protocols whose flows have ports.
func hasPorts(protocol uint8) bool { return protocol == 6 || protocol == 17 || protocol == 132 }

// Name is the flow as differences name it, with the hosts' names.
func (k Key) Name(names *golden.Names) string {
	end := func(a netip.Addr, port uint16) string {
		e := golden.Endpoint{Host: names.Of(a)}
		if hasPorts(k.Protocol) {
			e.Port = strconv.Itoa(int(port))
		}
		return e.String()
	}
	return fmt.Sprintf("%s > %s %s", end(k.Src, k.SrcPort), end(k.Dst, k.DstPort), golden.Protocol(k.Protocol))
}

// Count is what was counted of a flow.
type Count struct{ Packets, Bytes uint64 }

// Flows are the counts of all flows.
type Flows map[Key]Count

// Read reads the lines that a program wrote. A line that the map does not fit is an error; a flow
// that comes in several records is added up.
func (m *Map) Read(file string, data []byte) (Flows, error) {
	flows := Flows{}
	for number := 1; len(data) > 0; number++ {
		text, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var line map[string]any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		if !m.selects(line) {
			continue
		}
		k, c, err := m.flow(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		was := flows[k]
		flows[k] = Count{was.Packets + c.Packets, was.Bytes + c.Bytes}
	}
	return flows, nil
}

// selects tells whether a line is about a flow.
func (m *Map) selects(line map[string]any) bool {
	for name, want := range m.Only {
		if got, ok := find(line, name); !ok || fmt.Sprint(got) != want {
			return false
		}
	}
	return true
}

func (m *Map) flow(line map[string]any) (k Key, c Count, err error) {
	r := reader{file: m.File, line: line}
	k = Key{Src: r.address(m.Src), Dst: r.address(m.Dst), Protocol: r.protocol(m.Protocol)}
	if hasPorts(k.Protocol) {
		k.SrcPort, k.DstPort = r.port("src_port", m.SrcPort), r.port("dst_port", m.DstPort)
	}
	c.Packets = r.number(m.Packets, 64)
	if m.countsBytes() {
		c.Bytes = r.number(m.Bytes, 64)
	}
	return k, c, r.err
}

// countsBytes tells whether the map says what the number of bytes is called.
func (m *Map) countsBytes() bool { return len(m.Bytes.Names) > 0 }

// reader reads the terms of a line and keeps the first error.
type reader struct {
	file string // of the map
	line map[string]any
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// value is the first of the names that the line has, and its value as text. ok is false for a line
// without any, which is an error.
func (r *reader) value(t spec.Term) (name, text string, ok bool) {
	for _, name := range t.Names {
		if v, ok := find(r.line, name); ok {
			return name, fmt.Sprint(v), true
		}
	}
	r.fail(`the line has no "%s" (%s of %s:%d); %s`, strings.Join(t.Names, `" and no "`), t.Key, r.file, t.Line,
		t.Hint(names(r.line, "")))
	return "", "", false
}

// wrong is for a value that is none of its term.
func (r *reader) wrong(t spec.Term, name, text, what string) {
	r.fail("%s: %q is no %s (%s of %s:%d)", name, text, what, t.Key, r.file, t.Line)
}

// find follows a dotted name; a name with a dot in it that is there wins.
func find(line map[string]any, name string) (any, bool) {
	if v, ok := line[name]; ok {
		return v, true
	}
	outer, inner, ok := strings.Cut(name, ".")
	if next, isMap := line[outer].(map[string]any); ok && isMap {
		return find(next, inner)
	}
	return nil, false
}

// names are all that find finds.
func names(line map[string]any, prefix string) (all []string) {
	for k, v := range line {
		if inner, ok := v.(map[string]any); ok {
			all = append(all, names(inner, prefix+k+".")...)
		} else {
			all = append(all, prefix+k)
		}
	}
	return all
}

func (r *reader) address(t spec.Term) netip.Addr {
	name, text, ok := r.value(t)
	a, err := netip.ParseAddr(text)
	if ok && err != nil {
		r.wrong(t, name, text, "address")
	}
	return a.Unmap().WithZone("")
}

func (r *reader) number(t spec.Term, bits int) uint64 {
	name, text, ok := r.value(t)
	n, err := strconv.ParseUint(text, 10, bits)
	if ok && err != nil {
		r.wrong(t, name, text, fmt.Sprintf("number of %d bits", bits))
	}
	return n
}

// port reads a port, which a map may leave out as long as no line has a protocol with ports.
func (r *reader) port(key string, t spec.Term) uint16 {
	if len(t.Names) == 0 {
		r.fail("the line is of a protocol with ports, and %s has no key %q", r.file, key)
		return 0
	}
	return uint16(r.number(t, 16))
}

// protocol reads a number or a name.
func (r *reader) protocol(t spec.Term) uint8 {
	name, text, ok := r.value(t)
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		return uint8(n)
	}
	word := strings.ToLower(text)
	if word == "ipv6-icmp" { // as /etc/protocols has it
		word = "icmpv6"
	}
	for n := range 256 {
		if golden.Protocol(uint8(n)) == word {
			return uint8(n)
		}
	}
	if ok {
		r.wrong(t, name, text, "protocol's number or name")
	}
	return 0
}
