// Package mapargs says what maps of an object shall hold, and turns it into bytes by the types that
// the object's type information (BTF) gives to keys and values.
package mapargs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Args are the entries of a map, in one of two forms, which Check checks:
//
//   - a text, "80,443": keys of a hash, each with the value 1; or the values of an array, from index 0 on.
//     A number is a text of one.
//   - a list of {key, value}.
//
// It is kept as JSON in one way of writing: equal ones are the same text.
type Args string

// entry is of the list.
type entry struct {
	Key   any `json:"key"`
	Value any `json:"value"`
}

// UnmarshalYAML reads either form.
func (a *Args) UnmarshalYAML(decode func(any) error) error {
	var v any
	if err := decode(&v); err != nil {
		return err
	}
	return a.set(v)
}

// UnmarshalJSON reads either form.
func (a *Args) UnmarshalJSON(text []byte) error {
	v, err := parse(text)
	if err != nil {
		return err
	}
	return a.set(v)
}

// MarshalJSON writes what was read.
func (a Args) MarshalJSON() ([]byte, error) { return []byte(a), nil }

func (a *Args) set(v any) error {
	text, err := json.Marshal(v)
	*a = Args(text)
	return err
}

// Check tells whether they are in one of the forms.
func (a Args) Check() error {
	_, _, err := a.forms()
	return err
}

// forms is the content: a list of texts, or entries.
func (a Args) forms() (texts []string, entries []entry, err error) {
	v, err := parse([]byte(a))
	if err != nil {
		return nil, nil, err
	}
	switch v := v.(type) {
	case json.Number:
		return []string{v.String()}, nil, nil
	case string:
		if strings.TrimSpace(v) == "" {
			return nil, nil, nil
		}
		return strings.Split(v, ","), nil, nil
	}
	dec := json.NewDecoder(strings.NewReader(string(a)))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	if err := dec.Decode(&entries); err != nil || v == nil {
		return nil, nil, fmt.Errorf(`%s; want a text like "80,443", a number, or a list of {key, value}`, a)
	}
	for i, e := range entries {
		if e.Key == nil || e.Value == nil {
			return nil, nil, fmt.Errorf("entry %d wants a key and a value", i)
		}
	}
	return nil, entries, nil
}

// parse reads one JSON value; its numbers stay as they are written.
func parse(text []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after its end")
	}
	return v, nil
}
