package golden

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Error is a mistake in a golden file, with its place.
type Error struct {
	File         string
	Line, Column int
	Msg          string
}

// Error is "file:line:column: message".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// Bounds on a file, which keep the YAML parser from quadratic time and deep recursion. What
// Encode writes is far below them.
const (
	maxFile  = 4 << 20
	maxLine  = 8 << 10
	maxDepth = 8
)

// node is a part of a file. Exactly one of isMap, isList and neither (a scalar) holds.
type node struct {
	line, column  int
	isMap, isList bool
	isNull        bool
	text          string
	pairs         []pair
	items         []*node
}

type pair struct {
	key   *node
	value *node
}

// what is the node's kind for error messages.
func (n *node) what() string {
	switch {
	case n.isMap:
		return "a mapping"
	case n.isList:
		return "a list"
	case n.isNull:
		return "nothing"
	}
	return fmt.Sprintf("%q", n.text)
}

// reader reads one file.
type reader struct{ file string }

func (r *reader) fail(n *node, format string, args ...any) error {
	return &Error{r.file, n.line, n.column, fmt.Sprintf(format, args...)}
}

// parse reads the file's YAML.
func (r *reader) parse(data []byte) (root *node, err error) {
	if err := r.checkSize(data); err != nil {
		return nil, err
	}
	// The YAML library panics on some malformed input.
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, &Error{r.file, 1, 1, "is not YAML"}
		}
	}()
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, r.syntax(err)
	}
	docs := slices.DeleteFunc(tree.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	switch {
	case len(docs) == 0:
		return nil, &Error{r.file, 1, 1, "the file is empty"}
	case len(docs) > 1:
		n := start(docs[1].Body)
		return nil, r.fail(&n, "a second document")
	}
	return r.convert(docs[0].Body, 0)
}

// checkSize refuses what the YAML parser should not be troubled with.
func (r *reader) checkSize(data []byte) error {
	if len(data) > maxFile {
		return &Error{r.file, 1, 1, fmt.Sprintf("the file has %d bytes, at most %d are read",
			len(data), maxFile)}
	}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		if len(line) > maxLine {
			return &Error{r.file, number, 1, fmt.Sprintf(
				"the line has %d bytes, at most %d are read", len(line), maxLine)}
		}
		indent := len(line) - len(strings.TrimLeft(line, " -?:"))
		if indent > 256 || strings.Count(line, "[")+strings.Count(line, "{") > 64 {
			return &Error{r.file, number, 1, "too many collections within collections"}
		}
	}
	return nil
}

// syntax gives an error of the YAML library our form.
func (r *reader) syntax(err error) error {
	e := &Error{r.file, 1, 1, err.Error()}
	if y := yaml.Error(nil); errors.As(err, &y) {
		e.Msg = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	e.Msg, _, _ = strings.Cut(e.Msg, "\n")
	return e
}

// place is a node with nothing but a token's place.
func place(t *token.Token) node {
	if t == nil || t.Position == nil {
		return node{line: 1, column: 1}
	}
	return node{line: t.Position.Line, column: t.Position.Column}
}

// start is a node with nothing but the place where a YAML node begins. The library's token of a
// mapping in block style is its first colon.
func start(y ast.Node) node {
	switch v := y.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return start(v.Values[0].Key)
		}
		return place(v.Start)
	case *ast.MappingValueNode:
		return start(v.Key)
	}
	return place(y.GetToken())
}

// convert brings a YAML node into our form. It refuses what golden files have no use for.
func (r *reader) convert(y ast.Node, depth int) (*node, error) {
	if y == nil {
		return nil, &Error{r.file, 1, 1, "is not YAML"}
	}
	n := start(y)
	if depth > maxDepth {
		return nil, r.fail(&n, "too many collections within collections")
	}
	switch v := y.(type) {
	case *ast.MappingNode:
		return r.mapping(n, v.Values, depth)
	case *ast.MappingValueNode:
		return r.mapping(n, []*ast.MappingValueNode{v}, depth)
	case *ast.SequenceNode:
		n.isList = true
		for _, value := range v.Values {
			item, err := r.convert(value, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	case *ast.StringNode:
		n.text = v.Value
	case *ast.NullNode:
		n.isNull = true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		n.text = strings.TrimSpace(y.GetToken().Value)
	default:
		return nil, r.fail(&n, "%s is not part of golden files", strings.ToLower(y.Type().String()))
	}
	return &n, nil
}

// mapping converts a mapping; a key that comes twice is an error.
func (r *reader) mapping(n node, values []*ast.MappingValueNode, depth int) (*node, error) {
	n.isMap = true
	known := map[string]bool{}
	for _, v := range values {
		k, err := r.convert(v.Key, depth+1)
		if err != nil {
			return nil, err
		}
		if k.isMap || k.isList || k.isNull {
			return nil, r.fail(k, "a key is %s", k.what())
		}
		if known[k.text] {
			return nil, r.fail(k, "key %q comes twice", k.text)
		}
		known[k.text] = true
		value, err := r.convert(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		n.pairs = append(n.pairs, pair{k, value})
	}
	return &n, nil
}
