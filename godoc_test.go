package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocComments checks that `go doc` says something of each package and of each exported name. How it says it
// is staticcheck's, in ci/lint.
func TestDocComments(t *testing.T) {
	files := token.NewFileSet()
	introduced := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || name == "out" || name != "." && strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		introduced[dir] = introduced[dir] || file.Doc.Text() != ""
		if ast.IsGenerated(file) {
			return nil
		}
		for _, d := range file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s: %s has no comment", files.Position(name.Pos()), name.Name)
			}
		}
		return nil
	}))
	require.Greater(t, len(introduced), 50)
	for dir, ok := range introduced {
		require.True(t, ok, "the package in %s has no comment", dir)
	}
}

// undocumented lists the exported names of a declaration that have no comment. One on a group of constants,
// variables or types is one for all in it.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc.Text() == "" && d.Name.IsExported() && ofExported(d.Recv) && !ofInterface[d.Name.Name] {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		if d.Doc.Text() != "" {
			return nil
		}
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc.Text() == "" {
					names = append(names, s.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Doc.Text() == "" && s.Comment.Text() == "" {
						names = append(names, n)
					}
				}
			}
		}
	}
	return names
}

// ofInterface are methods that everybody knows: those of the standard library's interfaces.
var ofInterface = map[string]bool{"Error": true, "Unwrap": true, "String": true, "Close": true, "Write": true, "Read": true,
	"Len": true, "Less": true, "Swap": true}

// ofExported tells whether a method's receiver, if any, is of an exported type.
func ofExported(recv *ast.FieldList) bool {
	if recv == nil {
		return true
	}
	x := recv.List[0].Type
	for {
		switch t := x.(type) {
		case *ast.StarExpr:
			x = t.X
		case *ast.IndexExpr:
			x = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}
