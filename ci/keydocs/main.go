// Command keydocs reads the doc comments of the fields of structs that configuration files are read into, and
// writes them as JSON: "package.Type.Field" to text. So a key is described once, where it is declared.
// A field without a comment shares that of the field right before it, when it names both.
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: keydocs OUTPUT FOLDER...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "keydocs:", err)
		os.Exit(1)
	}
}

func run(output string, folders []string) error {
	docs := map[string]string{}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			return err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			if err := read(file, docs); err != nil {
				return err
			}
		}
	}
	data, err := json.MarshalIndent(docs, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(output, append(data, '\n'), 0o644)
}

func read(file string, docs map[string]string) error {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		t, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := t.Type.(*ast.StructType); ok {
			fields(fset, tree.Name.Name+"."+t.Name.Name, s, docs)
		}
		return true
	})
	return nil
}

func fields(fset *token.FileSet, owner string, s *ast.StructType, docs map[string]string) {
	keys := map[string]string{}
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			if key := keyOf(f.Tag); key != "" {
				keys[name.Name] = key
			}
		}
	}
	before, line := "", 0
	for _, f := range s.Fields.List {
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		begin := fset.Position(f.Pos()).Line
		shared := text == "" && begin == line+1
		if shared {
			text = before
		}
		before, line = text, fset.Position(f.End()).Line
		if keyOf(f.Tag) == "" {
			continue
		}
		for _, name := range f.Names {
			words := strings.Fields(text)
			if shared && !slices.Contains(words, name.Name) && !slices.Contains(words, name.Name+",") {
				words = nil
			}
			docs[owner+"."+name.Name] = strings.Join(users(words, keys), " ")
		}
	}
}

// users puts keys in the place of the names of fields: where a comment begins, and where the case tells that a
// word is such a name.
func users(words []string, keys map[string]string) []string {
	out := slices.Clone(words)
	for i, word := range words {
		name := strings.TrimRight(word, ",.;:")
		key, ok := keys[name]
		if !ok || i > 3 && strings.ToLower(name[1:]) == name[1:] || i > 3 && strings.ToUpper(name) == name {
			continue
		}
		out[i] = key + word[len(name):]
	}
	return out
}

// keyOf is the key that a field's tag tells, or "".
func keyOf(tag *ast.BasicLit) string {
	if tag == nil {
		return ""
	}
	text, err := strconv.Unquote(tag.Value)
	if err != nil {
		return ""
	}
	key, _, _ := strings.Cut(reflect.StructTag(text).Get("yaml"), ",")
	return key
}
