package clickhouse

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/flow"
)

// column is a column of a table.
type column struct {
	name  string
	typ   func(*server) string
	value func(row reflect.Value) any
}

// Types of columns. Where a server is too old for one, another one holds the same values.
func plain(typ string) func(*server) string { return func(*server) string { return typ } }

func word(s *server) string {
	if s.types["LowCardinality"] {
		return "LowCardinality(String)"
	}
	return "String"
}

func address(s *server) string {
	if s.types["IPv6"] {
		return "IPv6"
	}
	return "FixedString(16)"
}

// renamed are fields whose names in JSON are keywords of SQL.
var renamed = map[string]string{"end": "end_reason"}

// various are texts that differ from row to row: a dictionary of them saves nothing.
var various = map[string]bool{"name": true, "nat_before_id": true, "nat_after_id": true}

// columnsOf are the columns of a struct: its fields by their names in JSON. Fields of a struct within are joined to its
// own name by "_"; of one that is not there they have the zero value.
func columnsOf(t reflect.Type) []column {
	var all []column
	list(t, "", func(row reflect.Value) reflect.Value { return row }, &all)
	return all
}

// list appends the columns of a struct which of finds in a row.
func list(t reflect.Type, prefix string, of func(reflect.Value) reflect.Value, all *[]column) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if other, ok := renamed[name]; ok {
			name = other
		}
		name = prefix + name
		field := func(row reflect.Value) reflect.Value { return of(row).Field(i) }
		switch inner, ok := within(f.Type); {
		case f.Type == reflect.TypeFor[[]flow.Hook]():
			*all = append(*all, hooks(name, field)...)
		case ok:
			list(inner, name+"_", func(row reflect.Value) reflect.Value { return reach(field(row)) }, all)
		default:
			*all = append(*all, scalar(name, f.Type, field))
		}
	}
}

// within tells whether a type is a struct with columns of its own, or a pointer to one.
func within(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t != reflect.TypeFor[netip.Addr]()
}

// reach follows a pointer; nil leads to a zero value.
func reach(v reflect.Value) reflect.Value {
	switch {
	case v.Kind() != reflect.Pointer:
		return v
	case v.IsNil():
		return reflect.Zero(v.Type().Elem())
	}
	return v.Elem()
}

// scalar is the column of a single value.
func scalar(name string, t reflect.Type, field func(reflect.Value) reflect.Value) column {
	c := column{name: name, value: func(row reflect.Value) any { return field(row).Interface() }}
	switch {
	case t == reflect.TypeFor[netip.Addr]():
		c.typ = address
		c.value = func(row reflect.Value) any { return wide(field(row).Interface().(netip.Addr)) }
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		c.typ = word
		c.value = func(row reflect.Value) any { return fmt.Sprint(field(row).Interface()) }
	case t == reflect.TypeFor[*int64]():
		c.typ = plain("Nullable(Int64)")
	case t.Kind() == reflect.String:
		c.typ = word
		if various[name] {
			c.typ = plain("String")
		}
		c.value = func(row reflect.Value) any { return field(row).String() }
	default:
		c.typ = plain(numbers[t.Kind()])
	}
	return c
}

var numbers = map[reflect.Kind]string{reflect.Bool: "UInt8", reflect.Uint8: "UInt8", reflect.Uint16: "UInt16",
	reflect.Uint32: "UInt32", reflect.Uint64: "UInt64", reflect.Int64: "Int64"}

// hooks are the columns of a list of hooks: the first one, which owns the count, and all of them in three lists.
func hooks(name string, field func(reflect.Value) reflect.Value) []column {
	var all []column
	for _, part := range []struct {
		name string
		of   func(flow.Hook) string
	}{
		{"namespace", func(h flow.Hook) string { return h.Namespace }},
		{"interface", func(h flow.Hook) string { return h.Interface }},
		{"direction", func(h flow.Hook) string { return string(h.Direction) }},
	} {
		values := func(row reflect.Value) []string {
			var texts []string
			for _, h := range field(row).Interface().([]flow.Hook) {
				texts = append(texts, part.of(h))
			}
			return texts
		}
		first := func(row reflect.Value) any {
			if texts := values(row); len(texts) > 0 {
				return texts[0]
			}
			return ""
		}
		all = append(all, column{part.name, word, first}, column{name + "_" + part.name, plain("Array(String)"),
			func(row reflect.Value) any { return values(row) }})
	}
	return all
}

// times are the columns by which rows are kept together: when the record ended, in UTC.
func times() []column {
	end := func(row reflect.Value) any { return time.Unix(0, row.FieldByName("End").Int()).UTC() }
	return []column{{"date", plain("Date"), end}, {"time", plain("DateTime('UTC')"), end}}
}

// wide is an address in sixteen bytes: IPv4 as ::ffff:10.0.0.1, and none as ::.
func wide(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
