// Package settings works on the struct that a configuration file is read into: it lists its keys, reads them from
// environment variables, and tells how two configurations differ. Keys are fields with a yaml tag.
package settings

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/yamlfile"
)

// Prefix is what the names of environment variables begin with.
const Prefix = "WEIR_"

// Key is one key of a configuration.
type Key struct {
	Path    string // like table.size; [] stands for an item's index, as in sinks[].name
	Env     string // the environment variable; N stands for an item's index
	Type    string // as users are told
	Default string // as YAML; "" when there is none, or in lists
	Doc     string
}

// Keys lists the keys of a configuration that has the defaults, in the order of its fields. docs are the
// descriptions, by package.Type.Field.
func Keys(defaults any, docs map[string]string) []Key {
	var all []Key
	listKeys(reflect.ValueOf(defaults), "", Prefix, docs, &all)
	return all
}

func listKeys(v reflect.Value, path, env string, docs map[string]string, all *[]Key) {
	t := v.Type()
	for _, f := range yamlfile.Fields(t) {
		name := yamlfile.Name(f)
		k := Key{Path: path + name, Env: env + strings.ToUpper(name), Doc: docs[t.String()+"."+f.Name]}
		value := v.FieldByIndex(f.Index)
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner, value = inner.Elem(), reflect.New(inner.Elem()).Elem()
		}
		k.Type = typeName(inner)
		switch {
		case isStruct(inner):
			*all = append(*all, k)
			listKeys(value, k.Path+".", k.Env+"_", docs, all)
		case inner.Kind() == reflect.Slice && isStruct(inner.Elem()):
			*all = append(*all, k)
			listKeys(reflect.New(inner.Elem()).Elem(), k.Path+"[].", k.Env+"_N_", docs, all)
		default:
			if !value.IsZero() {
				k.Default = text(value)
			}
			*all = append(*all, k)
		}
	}
}

// isStruct tells whether a type has keys of its own.
func isStruct(t reflect.Type) bool { return t.Kind() == reflect.Struct && !yamlfile.Scalar(t) }

var duration = reflect.TypeFor[time.Duration]()

func typeName(t reflect.Type) string {
	switch {
	case t == duration:
		return "duration"
	case yamlfile.Scalar(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Struct:
		return "mapping"
	case reflect.Map:
		return "mapping of " + typeName(t.Elem())
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	}
	return "number"
}

// Changed lists the keys whose values differ between two configurations of one type.
func Changed(a, b any) []string {
	var all []string
	changed(reflect.ValueOf(a), reflect.ValueOf(b), "", &all)
	return all
}

func changed(a, b reflect.Value, path string, all *[]string) {
	for _, f := range yamlfile.Fields(a.Type()) {
		x, y := a.FieldByIndex(f.Index), b.FieldByIndex(f.Index)
		name := path + yamlfile.Name(f)
		if f.Type.Kind() == reflect.Pointer && isStruct(f.Type.Elem()) && !x.IsNil() && !y.IsNil() {
			x, y = x.Elem(), y.Elem()
		}
		if isStruct(x.Type()) {
			changed(x, y, name+".", all)
		} else if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			*all = append(*all, name)
		}
	}
}

func text(v reflect.Value) string { return fmt.Sprint(v.Interface()) }
