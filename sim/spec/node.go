package spec

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on the file itself. They keep the YAML parser, which recurses and looks back over the
// line, from being driven into quadratic time or a deep stack.
const (
	MaxFile  = 1 << 20 // bytes
	maxLine  = 2000    // bytes; block collections can nest once per column
	maxDepth = 32      // collections within collections
	maxKeys  = 200     // of one mapping; the parser's time grows with the square
)

// kind tells the nodes apart.
type kind int

const (
	scalarKind kind = iota
	mapKind
	listKind
	nullKind
)

// node is a part of the file with its place. It hides the YAML library from the rest.
type node struct {
	kind    kind
	line    int
	column  int
	key     string // the key under which it stands, also for the items of a list
	text    string // of a scalar
	quoted  bool   // a quoted scalar is a string whatever it looks like
	typed   bool   // YAML takes the scalar for a number or a truth value
	literal int    // line of the first line of a "|" block, else 0
	pairs   []pair // of a map, in file order
	items   []*node
}

// pair is a key and its value. The key is a scalar node whose key and text are the same.
type pair struct {
	key   *node
	value *node
}

// what names the node's kind in errors.
func (n *node) what() string {
	switch {
	case n.kind == mapKind:
		return "a mapping"
	case n.kind == listKind:
		return "a list"
	case n.kind == nullKind || n.text == "" && !n.quoted:
		return "nothing"
	case n.literal > 0:
		return "a block of text"
	}
	return fmt.Sprintf("%q", shorten(n.text))
}

// shorten keeps quotations from the file readable.
func shorten(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "..."
}

// at is the node's place moved right: for a part of a text.
func (n *node) at(offset int, part string) *node {
	if n.quoted {
		offset++
	}
	return &node{line: n.line, column: n.column + offset, key: n.key, text: part}
}

// parseYAML reads the file into nodes. It refuses what scenarios have no use for: several
// documents, anchors and aliases (and with them alias bombs), tags.
func parseYAML(file string, data []byte) (root *node, err error) {
	if err := checkBytes(file, data); err != nil {
		return nil, err
	}
	// The library panics on some malformed input. Whatever a file holds must end in an error.
	defer func() {
		if p := recover(); p != nil {
			root, err = nil, &Error{File: file, Line: 1, Column: 1, Msg: "is not YAML"}
		}
	}()
	tokens := lexer.Tokenize(hideColons(string(data)))
	if err := checkTokens(file, tokens); err != nil {
		return nil, err
	}
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(file, err)
	}
	docs := tree.Docs
	for len(docs) > 0 && docs[0].Body == nil {
		docs = docs[1:]
	}
	if len(docs) == 0 {
		return nil, &Error{File: file, Msg: "the file is empty", Hint: emptyHint}
	}
	c := converter{file: file}
	return c.convert(docs[0].Body, "", 0)
}

const emptyHint = "a scenario needs summary, topology, agent and traffic"

// The YAML library takes every colon within braces for the end of a key, so that it would read
// {eth0: [fd00::1/64]} as a mapping. By YAML 1.2 (section 7.3.3) a colon with a character behind
// it is part of a plain scalar. Such colons are replaced, one character by one, so that places
// stay right, and put back in every text.
const hiddenColon = '\ue03a'

// hideColons replaces the colons that end no key.
func hideColons(s string) string {
	runes := []rune(s)
	for i := 0; i+1 < len(runes); i++ {
		// Behind a quoted key the value may follow at once, as in JSON.
		quotedKey := i > 0 && strings.ContainsRune(`"']}`, runes[i-1])
		if runes[i] == ':' && !strings.ContainsRune(" \t\r\n,[]{}", runes[i+1]) && !quotedKey {
			runes[i] = hiddenColon
		}
	}
	return string(runes)
}

func showColons(s string) string { return strings.ReplaceAll(s, string(hiddenColon), ":") }

// checkBytes refuses what is no text, before the YAML parser sees it.
func checkBytes(file string, data []byte) error {
	if len(data) > MaxFile {
		return &Error{File: file, Msg: fmt.Sprintf("the file has %d bytes", len(data)),
			Hint: fmt.Sprintf("a scenario has at most %d", MaxFile)}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return &Error{File: file, Msg: "the file is empty", Hint: emptyHint}
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if msg, column := checkLine(line); msg != "" {
			hint := "scenarios are UTF-8 text"
			if msg == tabMessage {
				hint = "indent with spaces"
			}
			return &Error{File: file, Line: i + 1, Column: column, Msg: msg, Hint: hint}
		}
	}
	return nil
}

const tabMessage = "a tab"

// checkLine tells what is wrong with a line of text, and where.
func checkLine(line []byte) (msg string, column int) {
	if len(line) > maxLine {
		return fmt.Sprintf("the line has %d bytes, at most %d are read", len(line), maxLine), 1
	}
	for column = 1; len(line) > 0; column++ {
		r, size := utf8.DecodeRune(line)
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Sprintf("byte 0x%02x is not UTF-8", line[0]), column
		case r == '\t' && len(bytes.TrimSpace(line)) == 0, r == '\r' && len(line) == 1:
			return "", 0 // white space at the end
		case r == '\t':
			return tabMessage, column
		case unicode.IsControl(r), r == '\ufeff', r == '\u2028', r == '\u2029', r == hiddenColon:
			return fmt.Sprintf("control character %U", r), column
		}
		line = line[size:]
	}
	return "", 0
}

// checkTokens refuses YAML features that scenarios do without, and deep flow collections.
func checkTokens(file string, tokens token.Tokens) error {
	depth, documents := 0, 0
	keys := keyCounter{}
	for _, tk := range tokens {
		keys.see(tk)
		fail := func(msg, hint string) error {
			return &Error{File: file, Line: tk.Position.Line, Column: tk.Position.Column,
				Key: strings.TrimSpace(shorten(showColons(tk.Value))), Msg: msg, Hint: hint}
		}
		switch tk.Type {
		case token.MappingValueType:
			if keys.most > maxKeys {
				return fail(fmt.Sprintf("a mapping has more than %d keys", maxKeys), "")
			}
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return fail("anchors and aliases are not part of scenarios", "write the value out")
		case token.TagType, token.DirectiveType:
			return fail("tags and directives are not part of scenarios", "leave it out")
		case token.MappingKeyType:
			return fail("keys are plain words", "write key: value")
		case token.DocumentHeaderType:
			if documents++; documents > 1 || tk.Position.Line > 1 && hasContentBefore(tk) {
				return fail("a second document", "one file holds one scenario")
			}
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				return fail("too many collections within collections", "")
			}
		case token.SequenceEndType, token.MappingEndType:
			depth--
		}
	}
	return nil
}

// keyCounter counts the keys of block mappings by their column, before there is a tree.
type keyCounter struct {
	columns map[int]int
	line    int
	most    int
}

func (k *keyCounter) see(tk *token.Token) {
	if k.columns == nil {
		k.columns = map[int]int{}
	}
	at := tk.Position
	if at.Line != k.line && tk.Type != token.CommentType {
		// What stands further right has ended.
		maps.DeleteFunc(k.columns, func(column, _ int) bool { return column > at.Column })
		k.line = at.Line
	}
	if tk.Type == token.MappingValueType && tk.Prev != nil {
		column := tk.Prev.Position.Column
		k.columns[column]++
		k.most = max(k.most, k.columns[column])
	}
}

// hasContentBefore tells whether anything but comments stands before the token.
func hasContentBefore(tk *token.Token) bool {
	for p := tk.Prev; p != nil; p = p.Prev {
		if p.Type != token.CommentType {
			return true
		}
	}
	return false
}

// syntaxError turns the YAML library's error into ours.
func syntaxError(file string, err error) error {
	out := &Error{File: file, Line: 1, Column: 1, Msg: "is not YAML"}
	var ye yaml.Error
	if !errors.As(err, &ye) {
		return out
	}
	out.Msg = showColons(ye.GetMessage())
	if tk := ye.GetToken(); tk != nil && tk.Position != nil {
		out.Line, out.Column = tk.Position.Line, tk.Position.Column
	}
	return out
}

// converter turns the YAML library's tree into nodes.
type converter struct{ file string }

func (c *converter) convert(from ast.Node, key string, depth int) (*node, error) {
	n := &node{key: key, line: 1, column: 1}
	if tk := from.GetToken(); tk != nil && tk.Position != nil {
		n.line, n.column = tk.Position.Line, tk.Position.Column
	}
	if depth > maxDepth {
		return nil, c.fail(n, "too many collections within collections")
	}
	switch v := from.(type) {
	case *ast.MappingNode:
		return n, c.mapping(n, v.Values, v.IsFlowStyle, depth)
	case *ast.MappingValueNode:
		return n, c.mapping(n, []*ast.MappingValueNode{v}, v.IsFlowStyle, depth)
	case *ast.SequenceNode:
		n.kind = listKind
		for _, item := range v.Values {
			child, err := c.convert(item, key, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, child)
		}
		return n, nil
	case *ast.NullNode:
		n.kind = nullKind
		return n, nil
	case *ast.LiteralNode:
		n.text, n.quoted = showColons(v.Value.Value), true
		if v.Start.Type == token.LiteralType {
			n.literal = v.Start.Position.Line + 1
		}
		return n, nil
	case *ast.StringNode:
		n.text = showColons(v.Value)
		t := v.GetToken().Type
		n.quoted = t == token.SingleQuoteType || t == token.DoubleQuoteType
		return n, nil
	case ast.ScalarNode:
		n.text, n.typed = showColons(v.GetToken().Value), true
		return n, nil
	}
	return nil, c.fail(n, "is not something a scenario can hold")
}

// mapping fills in the pairs of a mapping and refuses a key that comes twice.
func (c *converter) mapping(n *node, values []*ast.MappingValueNode, flow bool, depth int) error {
	n.kind = mapKind
	seen := map[string]int{}
	for i, v := range values {
		k, err := c.convert(v.Key, "", depth+1)
		if err != nil {
			return err
		}
		if k.kind != scalarKind || k.text == "" {
			return c.fail(k, "keys are plain words")
		}
		k.key = k.text
		if first, dup := seen[k.text]; dup {
			return c.fail(k, fmt.Sprintf("is given twice, first in line %d", first))
		}
		seen[k.text] = k.line
		value, err := c.convert(v.Value, k.text, depth+1)
		if err != nil {
			return err
		}
		if value.kind == nullKind { // it has no place of its own
			value.line, value.column = k.line, k.column
		}
		if i == 0 && !flow { // the library gives the colon's place; in braces, the brace's
			n.line, n.column = k.line, k.column
		}
		n.pairs = append(n.pairs, pair{k, value})
	}
	return nil
}

func (c *converter) fail(n *node, msg string) error {
	return &Error{File: c.file, Line: n.line, Column: n.column, Key: n.key, Msg: msg}
}
