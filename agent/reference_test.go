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
	known := exported(t)
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
			require.True(t, known[n[1]], "%s: there is no %s", symbol, n[1])
		}
	}
	require.Greater(t, len(rows), 60)
}

// TestReferenceBehaviours checks that the tests exist which are said to hold a behaviour, and that none of the
// behaviours is left out.
func TestReferenceBehaviours(t *testing.T) {
	var numbers []string
	for _, r := range behaviours(t, "### What its tests hold it to") {
		numbers = append(numbers, r.number)
	}
	want := append(upTo("%d", 1, 36), strings.Split("abcdefghijklm", "")...)
	require.Equal(t, want, numbers)
}

// TestReferenceCases is the same for the cases of kubenetmon's tests. A test whose result is said to be the same
// names the case.
func TestReferenceCases(t *testing.T) {
	tests := testsBelow(t, "..")
	var numbers []string
	for _, r := range behaviours(t, "### The results of its tests") {
		numbers = append(numbers, r.number)
		if r.state != "same" {
			continue
		}
		for _, name := range r.tests[:1] {
			require.Regexp(t, `\b`+r.number+`\b`, tests[name], "%s does not name the case", name)
		}
	}
	var want []string
	for _, group := range [][2]int{{1, 5}, {10, 23}, {30, 35}, {40, 45}, {50, 50}, {60, 81}, {90, 95}, {100, 107},
		{110, 110}, {120, 124}} {
		want = append(want, upTo("%02d", group[0], group[1])...)
	}
	require.Equal(t, want, numbers)
}

func upTo(format string, first, last int) (all []string) {
	for n := first; n <= last; n++ {
		all = append(all, fmt.Sprintf(format, n))
	}
	return all
}

// behaviour is a row of a table of what a reference's tests assert.
type behaviour struct {
	number, state string
	tests         []string
}

// behaviours reads the table below a heading of REFERENCE.md.
func behaviours(t *testing.T, heading string) (all []behaviour) {
	t.Helper()
	page, err := os.ReadFile("REFERENCE.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), heading)
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	row := regexp.MustCompile(`(?m)^\| (\w+) \| .+ \| (same|mended|other) \| (.*?) ?\| (.+) \|$`)
	rows := row.FindAllStringSubmatch(table, -1)
	require.Len(t, rows, strings.Count(table, "\n| ")-1, "a row is not written like the others")
	tests := testsBelow(t, "..")
	name := regexp.MustCompile("`([a-z]+\\.Test[A-Za-z0-9]+)`")
	for _, r := range rows {
		b := behaviour{number: r[1], state: r[2]}
		for _, n := range name.FindAllStringSubmatch(r[4], -1) {
			require.NotEmpty(t, tests[n[1]], "%s: there is no %s", r[1], n[1])
			b.tests = append(b.tests, n[1])
		}
		require.NotEmpty(t, b.tests, r[1])
		require.Len(t, b.tests, strings.Count(r[4], "`")/2, r[1])
		if b.state != "same" {
			require.NotEmpty(t, r[3], "%s: in what it differs", r[1])
		}
		all = append(all, b)
	}
	return all
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

// exported are the names that the packages of the agent and the datapath export: package.Name,
// package.Type.Method.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	return declared(t, func(path string) bool { return !strings.HasSuffix(path, "_test.go") })
}

// declared are the names that are declared in files of the agent and the datapath.
func declared(t *testing.T, in func(path string) bool) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, folder := range []string{".", "../bpf"} {
		declaredBelow(t, folder, in, all)
	}
	return all
}

func declaredBelow(t *testing.T, folder string, in func(path string) bool, all map[string]bool) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || !in(path) {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			for _, n := range declares(d) {
				all[strings.TrimSuffix(file.Name.Name, "_test")+"."+n] = true
			}
		}
		return nil
	})
	require.NoError(t, err)
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

// TestBehaviour checks that the tests and scenarios which BEHAVIOUR.md names are there, and that it says why where it
// names none.
func TestBehaviour(t *testing.T) {
	page, err := os.ReadFile("BEHAVIOUR.md")
	require.NoError(t, err)
	tests := testsBelow(t, "..")
	row := regexp.MustCompile(`(?m)^\| ([^|]+) \| (.*?) ?\| (.*?) ?\|$`)
	named := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for _, r := range row.FindAllStringSubmatch(string(page), -1) {
		if r[2] == "shown by" {
			continue
		}
		rows++
		shown := named.FindAllStringSubmatch(r[2], -1)
		if len(shown) == 0 {
			require.NotEmpty(t, r[3], r[1])
		}
		for _, s := range shown {
			if !strings.Contains(s[1], "/") {
				require.NotEmpty(t, tests[s[1]], "%s: there is no %s", r[1], s[1])
				continue
			}
			require.FileExists(t, "../scenarios/"+s[1]+".yaml", r[1])
			require.FileExists(t, "../golden/"+s[1]+".yaml", r[1])
		}
	}
	require.Equal(t, strings.Count(string(page), "\n| ")-3, rows, "a row is not written like the others")
}

// testsBelow are the tests in a folder, with what is written in and above them: folder.TestName.
func testsBelow(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	test := regexp.MustCompile(`(?ms)((?:^//[^\n]*\n)*)^func (Test\w+)\(.*?^}$`)
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range test.FindAllSubmatch(text, -1) {
			all[filepath.Base(filepath.Dir(path))+"."+string(found[2])] = string(found[0])
		}
		return err
	})
	require.NoError(t, err)
	return all
}
