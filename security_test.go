package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// decoders are functions that read bytes which somebody else may have written. A package that calls one of
// them has a fuzz target, or docs/security.md says why not.
var decoders = regexp.MustCompile(`^(json|yaml|proto|xml|binary|gob|ebpf|pcapgo|csv|elf|tar|cpio|xz|gzip|protowire)\.` +
	`(Unmarshal\w*|NewDecoder|NewReader|NewNgReader|NewFile|Open|Consume\w+|LoadCollectionSpec\w*|Read|Decode|Uvarint)$` +
	`|^binary\.\w+Endian\.Uint\d+$`)

// TestFuzzTargets holds the tables of docs/security.md against the tree, both ways.
func TestFuzzTargets(t *testing.T) {
	page := docs(t)["docs/security.md"]
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("`([\\w/]+):(Fuzz\\w+)`").FindAllStringSubmatch(page, -1) {
		listed[m[1]+":"+m[2]] = true
	}
	excused := map[string]bool{}
	_, table, ok := strings.Cut(page, "| decodes |")
	require.True(t, ok)
	for _, m := range regexp.MustCompile("(?m)^\\| `([\\w/]+)` \\| \\S").FindAllStringSubmatch(table, -1) {
		excused[m[1]] = true
	}

	targets, decoding := survey(t)
	require.Equal(t, slices.Sorted(maps.Keys(targets)), slices.Sorted(maps.Keys(listed)), "targets that there are, and those of the page")
	fuzzed := map[string]bool{}
	for target := range targets {
		fuzzed[strings.Split(target, ":")[0]] = true
	}
	for dir := range excused {
		require.NotEmpty(t, decoding[dir], "%s is excused, and decodes nothing", dir)
		require.False(t, fuzzed[dir], "%s is excused, and has a target", dir)
	}
	for dir, call := range decoding {
		require.True(t, fuzzed[dir] || excused[dir], "%s calls %s: it needs a fuzz target, or a reason in docs/security.md", dir, call)
	}
}

// survey lists the fuzz targets of the tree, as package:name, and the packages that call decoders, with one
// such call.
func survey(t *testing.T) (targets map[string]bool, decoding map[string]string) {
	targets, decoding = map[string]bool{}, map[string]string{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || name == "out" || name != "." && strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".pb.go") || strings.HasSuffix(name, "_bpfel.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, test := filepath.Dir(path), strings.HasSuffix(path, "_test.go")
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if test && n.Recv == nil && strings.HasPrefix(n.Name.Name, "Fuzz") {
					targets[dir+":"+n.Name.Name] = true
				}
			case *ast.SelectorExpr:
				if name := selector(n); !test && decoders.MatchString(name) {
					decoding[dir] = name
				}
			}
			return true
		})
		return nil
	}))
	return targets, decoding
}

// selector writes a selector of names as the source does; nothing for other ones.
func selector(s *ast.SelectorExpr) string {
	switch x := s.X.(type) {
	case *ast.Ident:
		return x.Name + "." + s.Sel.Name
	case *ast.SelectorExpr:
		return selector(x) + "." + s.Sel.Name
	}
	return ""
}
