package spec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/spelling"
)

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// value is one type of the language: how it is read, and what the published schema says of it.
// Both stand together so that they cannot drift apart.
type value[V any] struct {
	schema schema
	// read reports mistakes to the list; it returns false when it reported one.
	read func(l *list, n *node) (V, bool)
}

// field is a key of a mapping, with the place its value goes to.
type field[T any] struct {
	name     string
	doc      string
	schema   schema
	required bool
	read     func(l *list, n *node, into *T)
}

// placed is a value that remembers where it stands, for checks that need the whole file.
type placed[V any] struct {
	v  V
	at *node
}

func keepPlace[V any](v value[V]) value[placed[V]] {
	return value[placed[V]]{schema: v.schema, read: func(l *list, n *node) (placed[V], bool) {
		got, ok := v.read(l, n)
		return placed[V]{got, n}, ok
	}}
}

// put makes a field from a value and what to do with it.
func put[T, V any](name, doc string, v value[V], store func(*T, V)) field[T] {
	return field[T]{name: name, doc: doc, schema: v.schema,
		read: func(l *list, n *node, into *T) {
			if got, ok := v.read(l, n); ok {
				store(into, got)
			}
		}}
}

// must marks a field as required.
func (f field[T]) must() field[T] {
	f.required = true
	return f
}

// rest is what keys mean that no field has: host names, interface names.
type rest[T any] struct {
	pattern *regexp.Regexp // a key that does not match is unknown
	doc     string
	schema  schema
	most    int // how many such keys there may be
	read    func(l *list, key, n *node, into *T)
}

// object is a mapping with known keys.
type object[T any] struct {
	what   string // names the mapping in errors: "a host", "the topology"
	doc    string
	fields []field[T]
	rest   *rest[T]
}

func (o object[T]) names() []string {
	names := make([]string, len(o.fields))
	for i, f := range o.fields {
		names[i] = f.name
	}
	return names
}

// value is the object as a value of its own.
func (o object[T]) value() value[T] {
	return value[T]{schema: o.schema(), read: func(l *list, n *node) (T, bool) {
		var t T
		before := len(l.errs)
		o.read(l, n, &t)
		return t, len(l.errs) == before
	}}
}

func (o object[T]) read(l *list, n *node, into *T) {
	if n.kind != mapKind {
		hint := "it is a mapping with " + strings.Join(o.names(), ", ")
		if len(o.fields) == 0 {
			hint = "it is a mapping; " + o.rest.doc
		}
		l.add(n, fmt.Sprintf("want %s, got %s", o.what, n.what()), hint)
		return
	}
	// A key that was meant by a misspelt one is not missing: that would be a second error for
	// one mistake.
	given, others := map[string]bool{}, 0
	for _, p := range n.pairs {
		i := slices.IndexFunc(o.fields, func(f field[T]) bool { return f.name == p.key.text })
		switch {
		case i >= 0:
			given[p.key.text] = true
			o.fields[i].read(l, p.value, into)
		case o.rest != nil && o.rest.pattern.MatchString(p.key.text):
			if others++; others > o.rest.most {
				l.add(p.key, fmt.Sprintf("%s has more than %d", o.what, o.rest.most), "")
				return
			}
			o.rest.read(l, p.key, p.value, into)
		default:
			l.add(p.key, "unknown key in "+o.what, o.unknownHint(p.key.text))
			given[spelling.Nearest(p.key.text, o.names())] = true
		}
	}
	for _, f := range o.fields {
		if f.required && !given[f.name] {
			l.add(n, fmt.Sprintf("%s needs the key %q", o.what, f.name), sentence(f.doc))
		}
	}
}

// sentence makes the description of a field fit behind a semicolon.
func sentence(doc string) string {
	return strings.ToLower(doc[:1]) + strings.TrimSuffix(doc[1:], ".")
}

func (o object[T]) unknownHint(key string) string {
	if name, rest, ok := strings.Cut(key, ":"); ok {
		return fmt.Sprintf("write %s: %s, with a space", name, rest)
	}
	if len(o.fields) == 0 {
		return o.rest.doc
	}
	hint := suggest(key, o.names())
	if hint == "" && o.rest != nil {
		return o.rest.doc
	}
	if o.rest == nil || spelling.Nearest(key, o.names()) != "" {
		return hint
	}
	return hint + "; " + o.rest.doc
}

func (o object[T]) schema() schema {
	s := schema{"type": "object", "additionalProperties": false}
	if o.doc != "" {
		s["description"] = o.doc
	}
	properties, required := schema{}, []string{}
	for _, f := range o.fields {
		properties[f.name] = describe(f.schema, f.doc)
		if f.required {
			required = append(required, f.name)
		}
	}
	if len(properties) > 0 {
		s["properties"] = properties
	}
	if len(required) > 0 {
		s["required"] = required
	}
	if o.rest != nil {
		// Not patternProperties: those would hold for the fields as well.
		s["additionalProperties"] = describe(o.rest.schema, o.rest.doc)
		s["propertyNames"] = schema{"anyOf": []schema{{"enum": o.names()},
			{"pattern": o.rest.pattern.String()}}}
	}
	return s
}

// describe is the schema with a description.
func describe(s schema, doc string) schema {
	out := maps.Clone(s)
	out["description"] = doc
	return out
}

// scalar reports whether the node is a scalar with something in it, and complains otherwise.
func scalar(l *list, n *node, want string) bool {
	if n.kind == scalarKind && (n.text != "" || n.quoted) {
		return true
	}
	l.add(n, fmt.Sprintf("want %s, got %s", want, n.what()), "")
	return false
}

// text is scalar for what must be text to YAML too: editors go by the published schema, where
// an unquoted number is not text.
func text(l *list, n *node, want, hint string) bool {
	if !scalar(l, n, want) {
		return false
	}
	if n.typed {
		l.add(n, fmt.Sprintf("want %s, got the %s %s", want, typeOf(n.text), n.text), hint)
	}
	return !n.typed
}

// typeOf names the type that YAML gives to a word.
func typeOf(word string) string {
	if word == "true" || word == "false" {
		return "truth value"
	}
	return "number"
}

// str is text of 1 to most characters.
func str(what string, most int) value[string] {
	return value[string]{
		schema: schema{"type": "string", "minLength": 1, "maxLength": most},
		read: func(l *list, n *node) (string, bool) {
			if !text(l, n, what, "put it in quotes") {
				return "", false
			}
			if size := len([]rune(n.text)); size == 0 || size > most {
				l.add(n, fmt.Sprintf("has %d characters", size), fmt.Sprintf("1 to %d are good", most))
				return "", false
			}
			return n.text, true
		}}
}

// match is text that a pattern describes; parse may refuse what the pattern cannot tell.
func match[V any](what, example, pattern string, parse func(string) (V, error)) value[V] {
	re := regexp.MustCompile(pattern)
	hint := "write it like " + example
	return value[V]{
		schema: schema{"type": "string", "pattern": pattern, "examples": []string{example}},
		read: func(l *list, n *node) (V, bool) {
			var zero V
			if !text(l, n, what, hint) {
				return zero, false
			}
			if !re.MatchString(n.text) {
				l.add(n, fmt.Sprintf("%q is not %s", shorten(n.text), what), hint)
				return zero, false
			}
			v, err := parse(n.text)
			if err != nil { // it says what is wrong better than an example could
				l.add(n, fmt.Sprintf("%q is not %s: %v", shorten(n.text), what, err), "")
				return zero, false
			}
			return v, true
		}}
}

// number is a whole number within bounds, written in decimal or with 0x.
func number[V ~int | ~uint8 | ~uint16 | ~uint32 | ~uint64](low, high uint64) value[V] {
	bounds := schema{"type": "integer", "minimum": low, "maximum": high}
	want := fmt.Sprintf("a number from %d to %d", low, high)
	return value[V]{schema: bounds, read: func(l *list, n *node) (V, bool) {
		if !scalar(l, n, want) {
			return 0, false
		}
		v, ok := wholeNumber(n)
		if !ok || v < low || v > high {
			l.add(n, fmt.Sprintf("%s is not %s", n.what(), want), "")
			return 0, false
		}
		return V(v), true
	}}
}

// wholeNumber reads decimal and 0x numbers. "010" is refused: it is 8 to some and 10 to others.
func wholeNumber(n *node) (uint64, bool) {
	text := strings.ReplaceAll(n.text, "_", "")
	if n.quoted || len(text) > 1 && text[0] == '0' && text[1] != 'x' {
		return 0, false
	}
	v, err := strconv.ParseUint(text, 0, 64)
	return v, err == nil
}

// boolean is true or false.
func boolean() value[bool] {
	return value[bool]{schema: schema{"type": "boolean"}, read: func(l *list, n *node) (bool, bool) {
		if n.kind != scalarKind || n.quoted || n.text != "true" && n.text != "false" {
			l.add(n, fmt.Sprintf("want true or false, got %s", n.what()), "")
			return false, false
		}
		return n.text == "true", true
	}}
}

// choice is one of several words.
func choice(words ...string) value[string] {
	return value[string]{schema: schema{"enum": words}, read: func(l *list, n *node) (string, bool) {
		if !text(l, n, "one of "+strings.Join(words, ", "), "") {
			return "", false
		}
		if !slices.Contains(words, n.text) {
			l.add(n, fmt.Sprintf("%s is not known here", n.what()), suggest(n.text, words))
			return "", false
		}
		return n.text, true
	}}
}

// duration is a length of time above zero and up to most.
func duration(most time.Duration) value[time.Duration] {
	// Go's own notation; the pattern says what time.ParseDuration takes, without sign and zero.
	const pattern = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`
	return match("a length of time", "1m30s", pattern, func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return 0, fmt.Errorf("it does not fit")
		case d <= 0:
			return 0, fmt.Errorf("it must be above zero")
		case d > most:
			return 0, fmt.Errorf("it may be at most %s", most)
		}
		return d, nil
	})
}

// listOf is a list of low to high items.
func listOf[V any](what string, item value[V], low, high int) value[[]V] {
	s := schema{"type": "array", "items": item.schema, "maxItems": high}
	if low > 0 {
		s["minItems"] = low
	}
	return value[[]V]{schema: s, read: func(l *list, n *node) ([]V, bool) {
		if n.kind != listKind {
			l.add(n, fmt.Sprintf("want a list of %s, got %s", what, n.what()), "write [ ... ]")
			return nil, false
		}
		if len(n.items) < low || len(n.items) > high {
			l.add(n, fmt.Sprintf("has %d %s", len(n.items), what),
				fmt.Sprintf("%d to %d are good", low, high))
			return nil, false
		}
		out, good := make([]V, 0, len(n.items)), true
		for _, item2 := range n.items {
			v, ok := item.read(l, item2)
			out, good = append(out, v), good && ok
		}
		return out, good
	}}
}

// keyed is a mapping from words to values, in file order.
func keyed[V any](what string, words []string, item value[V]) value[map[string]V] {
	properties := schema{}
	for _, w := range words {
		properties[w] = item.schema
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	return value[map[string]V]{schema: s, read: func(l *list, n *node) (map[string]V, bool) {
		if n.kind != mapKind {
			l.add(n, fmt.Sprintf("want %s, got %s", what, n.what()), "write key: value")
			return nil, false
		}
		out, good := map[string]V{}, true
		for _, p := range n.pairs {
			if !slices.Contains(words, p.key.text) {
				l.add(p.key, "unknown key in "+what, suggest(p.key.text, words))
				good = false
				continue
			}
			v, ok := item.read(l, p.value)
			out[p.key.text], good = v, good && ok
		}
		return out, good
	}}
}
