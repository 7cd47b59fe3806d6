package golden

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// column is one key of a record and its value as files write it. Values that are the default
// are not there.
type column struct {
	key   string
	value string
	// raw is set for values that are YAML collections themselves and must not be quoted.
	raw bool
	// number is set for values that are written right-aligned.
	number bool
}

// record is the written form of a flow, a connection or a hook's counters.
type record struct {
	// identity is what a record is about, without what was measured of it.
	identity string
	columns  []column
	// fields are what comparisons tell apart; columns, if nil.
	fields []column
}

// text adds a column, unless the value is empty.
func (r *record) text(key, value string) {
	if value != "" {
		r.columns = append(r.columns, column{key: key, value: value})
	}
}

func (r *record) number(key string, n Number) {
	r.columns = append(r.columns, column{key: key, value: n.String(), number: true})
}

// line is the record on one line.
func (r record) line() string {
	parts := make([]string, 0, len(r.columns))
	for _, c := range r.columns {
		parts = append(parts, c.String())
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// String is "key: value".
func (c column) String() string { return c.key + ": " + c.written() }

// written is the value as YAML.
func (c column) written() string {
	if c.raw {
		return c.value
	}
	return scalar(c.value)
}

// scalar quotes a string if YAML would take it for something else.
func scalar(s string) string {
	if plain(s) {
		return s
	}
	return strconv.Quote(s)
}

// plain tells whether YAML reads the text back as it stands inside a flow collection. It is
// stricter than YAML where readers differ.
func plain(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == ':' || strings.HasSuffix(s, " ") {
		return false
	}
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return false
	}
	colon := strings.IndexByte(s, ':') // 1:20 and ::1 mean other things to some readers
	if colon == 0 || colon > 0 && strings.Trim(s, "0123456789abcdefABCDEF:") == "" {
		return false
	}
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		inside := i > 0 && strings.ContainsRune(" ./:-+()|=*", r)
		if !letter && !inside && r != '_' {
			return false
		}
	}
	return !strings.Contains(s, ": ") && !strings.Contains(s, "  ")
}

// list is a YAML list of strings on one line.
func list(values []string) string {
	quoted := make([]string, 0, len(values))
	for _, v := range values {
		quoted = append(quoted, scalar(v))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// record returns the flow's written form. Comparisons see what it leaves out, too.
func (f Flow) record() record {
	var r record
	r.text("src", f.Src.String())
	r.text("dst", f.Dst.String())
	r.text("proto", f.Proto)
	r.text("cites", f.Cites)
	r.text("icmp", f.ICMP)
	r.zone(f.Zone)
	r.identity = r.line()
	r.number("packets", f.Packets)
	r.number("bytes", f.Bytes)
	hooks := column{key: "seen", value: list(f.Seen), raw: true}
	r.fields = append(slices.Clone(r.columns), column{key: "flags", value: f.Flags},
		column{key: "end", value: f.End}, column{key: "state", value: f.State},
		column{key: "icmp_error", value: f.ICMPError},
		column{key: "nat_before", value: f.NATBefore.String()},
		column{key: "nat_after", value: f.NATAfter.String()},
		column{key: "initiator", value: f.Initiator})
	r.fields = append(append(append(r.fields, f.Who.columns()...), hooks), f.features()...)
	r.text("flags", f.Flags)
	r.text("end", f.End)
	if f.State != impliedState(f.End) {
		r.text("state", f.State)
	}
	r.text("icmp_error", f.ICMPError)
	r.text("nat_before", f.NATBefore.String())
	r.text("nat_after", f.NATAfter.String())
	for _, c := range f.Who.columns() {
		r.text(c.key, c.value)
	}
	r.columns = append(r.columns, hooks)
	r.columns = append(r.columns, f.features()...)
	if f.Initiator != InitiatorSrc {
		r.text("initiator", f.Initiator)
	}
	return r
}

func (w *Who) columns() []column {
	return []column{{key: "from", value: w.From}, {key: "to", value: w.To}, {key: "service", value: w.Service},
		{key: "class", value: w.Class}, {key: "unlabelled", value: w.Unlabelled},
		{key: "remarks", value: w.Remarks}}
}

// impliedState is the state that an end says by itself.
func impliedState(end string) string {
	switch end {
	case "end-detected":
		return "closed"
	case "lack-of-resources":
		return "none"
	}
	return ""
}

func (r *record) zone(zone uint16) {
	if zone != 0 {
		r.text("zone", strconv.Itoa(int(zone)))
	}
}

// record returns the connection's written form.
func (c Connection) record() record {
	var r record
	first, second := "client", "server"
	if !c.Known {
		first, second = "a", "b"
	}
	r.text(first, c.Client.String())
	r.text(second, c.Server.String())
	r.text("proto", c.Proto)
	r.text("cites", c.Cites)
	r.text("icmp", c.ICMP)
	r.zone(c.Zone)
	r.identity = c.identity()
	r.text("state", c.State)
	r.number("forward", c.Forward)
	r.number("reverse", c.Reverse)
	r.text("icmp_error", c.ICMPError)
	r.text("left", c.Left)
	if c.Expired {
		r.columns = append(r.columns, column{key: "expired", value: "true", raw: true})
	}
	r.fields = slices.Clone(r.columns)
	if !c.Known { // compared as what it is, not as four names
		r.fields[0].key, r.fields[1].key = "client", "server"
		r.fields = append(r.fields, column{key: "initiator", value: InitiatorUnknown})
	}
	return r
}

// identity is the same whoever the initiator is.
func (c Connection) identity() string {
	ends := []string{c.Client.String(), c.Server.String()}
	slices.Sort(ends)
	return strings.Join(append(ends, c.Proto, c.Cites, c.ICMP, strconv.Itoa(int(c.Zone))), " ")
}

// record returns the counters' written form. Comparisons see packets and bytes apart.
func (c HookCounters) record() record {
	r := record{identity: c.Hook}
	r.text("hook", c.Hook)
	r.fields = slices.Clone(r.columns)
	add := func(key string, t Traffic, always bool) {
		if !always && t == (Traffic{}) {
			return
		}
		r.columns = append(r.columns, column{key: key, value: t.String(), number: true})
		r.split(key, t)
	}
	add("seen", c.Seen, true)
	add("accounted", c.Accounted, true)
	add("observed", c.Observed, false)
	r.byReason("left_out", c.LeftOut)
	r.byReason("lost", c.Lost)
	return r
}

// byReason adds what is counted by reason, unless there is none.
func (r *record) byReason(key string, by map[string]Traffic) {
	if len(by) == 0 {
		return
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		t := by[reason]
		parts = append(parts, scalar(reason)+": "+scalar(t.String()))
		r.split(key+"."+reason, t)
	}
	r.columns = append(r.columns,
		column{key: key, value: "{" + strings.Join(parts, ", ") + "}", raw: true})
}

// split adds packets and bytes as fields of their own.
func (r *record) split(key string, t Traffic) {
	r.fields = append(r.fields,
		column{key: key + ".packets", value: t.Packets.String()},
		column{key: key + ".bytes", value: t.Bytes.String()})
}

// compared returns the fields that comparisons tell apart.
func (r record) compared() []column {
	if r.fields != nil {
		return r.fields
	}
	return r.columns
}
