package yamlfile

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/weirnet/weir/agent/spelling"
)

// Fields lists the keys of a struct type: its fields with a tag, those of inline structs among them.
func Fields(t reflect.Type) []reflect.StructField {
	var all []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			all = append(all, Fields(f.Type)...)
		case name != "" && name != "-":
			all = append(all, f)
		}
	}
	return all
}

// Name is the key of a field.
func Name(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// Scalar tells whether a type reads its value from a text by itself.
func Scalar(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// unknown looks for a key that the type does not have, and says which one may be meant. What it cannot
// follow it leaves to the decoder.
func unknown(file string, data []byte, v any) error {
	tree, err := parser.ParseBytes(data, 0)
	if err != nil || len(tree.Docs) != 1 {
		return nil
	}
	return unknownIn(file, tree.Docs[0].Body, reflect.TypeOf(v))
}

func unknownIn(file string, node ast.Node, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := node.(type) {
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for _, item := range n.Values {
			if err := unknownIn(file, item, t.Elem()); err != nil {
				return err
			}
		}
	case *ast.MappingNode:
		for _, pair := range n.Values {
			if err := unknownKey(file, pair, t); err != nil {
				return err
			}
		}
	case *ast.MappingValueNode:
		return unknownKey(file, n, t)
	}
	return nil
}

func unknownKey(file string, pair *ast.MappingValueNode, t reflect.Type) error {
	if t.Kind() != reflect.Struct || Scalar(t) || pair.Key.IsMergeKey() {
		return nil
	}
	at := pair.Key.GetToken()
	var known []string
	for _, f := range Fields(t) {
		if Name(f) == at.Value {
			return unknownIn(file, pair.Value, f.Type)
		}
		known = append(known, Name(f))
	}
	hint := "known: " + strings.Join(known, ", ")
	if near := spelling.Nearest(at.Value, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("%s:%d:%d: unknown key %q; %s", file, at.Position.Line, at.Position.Column, at.Value, hint)
}

// Place is "file:line:column" of the value at a path like table.size or sinks[1].grpc, or of the nearest one
// around it that is there; else it is the file.
func Place(file string, data []byte, path string) string {
	tree, err := parser.ParseBytes(data, 0)
	for ; err == nil && path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		p, err := yaml.PathString("$." + path)
		if err != nil {
			continue
		}
		if node, err := p.FilterFile(tree); err == nil && node != nil {
			at := node.GetToken().Position
			return fmt.Sprintf("%s:%d:%d", file, at.Line, at.Column)
		}
	}
	return file
}
