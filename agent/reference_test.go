package agent

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReference checks that what REFERENCE.md names is declared, and that it says why where it names
// nothing.
func TestReference(t *testing.T) {
	page, err := os.ReadFile("REFERENCE.md")
	require.NoError(t, err)
	declared := exported(t)
	row := regexp.MustCompile("(?m)^\\| `([A-Za-z0-9_.]+)` \\| (\\w+) \\| (.*?) ?\\| (.*?) ?\\|$")
	name := regexp.MustCompile("`([a-z0-9]+\\.[A-Z][A-Za-z0-9_.]*)`")
	rows := row.FindAllStringSubmatch(string(page), -1)
	require.Len(t, rows, strings.Count(string(page), "\n| `"), "a row is not written like the others")
	seen := map[string]bool{}
	for _, r := range rows {
		symbol, state, here, why := r[1], r[2], name.FindAllStringSubmatch(r[3], -1), r[4]
		require.False(t, seen[symbol], symbol)
		seen[symbol] = true
		require.Contains(t, []string{"done", "other", "part", "no"}, state, symbol)
		if state == "done" {
			require.NotEmpty(t, here, symbol)
		}
		if state == "no" || len(here) == 0 || state == "part" {
			require.NotEmpty(t, why, symbol)
		}
		for _, n := range append(here, name.FindAllStringSubmatch(why, -1)...) {
			require.True(t, declared[n[1]], "%s: there is no %s", symbol, n[1])
		}
	}
	require.Greater(t, len(rows), 60)
}

// TestReferenceScenarios checks that the scenarios that REFERENCE.md names say what it says.
func TestReferenceScenarios(t *testing.T) {
	page, err := os.ReadFile("REFERENCE.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| .* \\| (.*) \\| (.*) \\| ([A-Z_]+) \\| `(.*)` \\|$").FindAllStringSubmatch(string(page), -1)
	require.Len(t, rows, 14)
	for _, r := range rows {
		from, to, class, scenario := r[1], r[2], r[3], r[4]
		require.FileExists(t, "../scenarios/"+scenario+".yaml")
		golden, err := os.ReadFile("../golden/" + scenario + ".yaml")
		require.NoError(t, err)
		line := fmt.Sprintf(`from: %s, +to: %s, .*class: %s\b`, from, to, class)
		require.Regexp(t, line, string(golden), scenario)
	}
}

// exported are the names that the packages below this folder export: package.Name, package.Type.Method.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			for _, n := range declares(d) {
				all[file.Name.Name+"."+n] = true
			}
		}
		return nil
	})
	require.NoError(t, err)
	return all
}

func declares(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		on := d.Recv.List[0].Type
		if p, ok := on.(*ast.StarExpr); ok {
			on = p.X
		}
		if on, ok := on.(*ast.Ident); ok {
			return []string{on.Name + "." + d.Name.Name}
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}
