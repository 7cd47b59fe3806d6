package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// TestDocsNavigation checks that no page is left out of the site.
func TestDocsNavigation(t *testing.T) {
	pages := docs(t)
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (name == "testdata" || name == "out" || name != "." && strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case filepath.Ext(name) == ".md":
			_, ok := pages[path]
			require.True(t, ok, "%s is not in docs/site/data/nav.yaml", path)
		}
		return nil
	}))
}

// TestDocsLinks checks that the files that pages link to exist, and the headings in them. Links to other
// sites are not followed: tests need no network.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	checked := 0
	for file, page := range docs(t) {
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(fence.ReplaceAllString(page, ""), "``"), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			checked++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			require.FileExists(t, target, "a link of %s", file)
			if anchor != "" {
				text, err := os.ReadFile(target)
				require.NoError(t, err)
				require.Contains(t, anchors(string(text)), anchor, "a link of %s to %s", file, target)
			}
		}
	}
	require.Greater(t, checked, 50)
}

func TestAnchors(t *testing.T) {
	require.Equal(t, []string{"a-title", "tcp-a-talk-by-script", "9-maps", "9-maps-1", "code_with-dashes"},
		anchors("# A title\n\n## tcp: a talk, by script\ntext # no heading\n```sh\n# no heading\n```\n"+
			"### 9. Maps\n### 9. Maps\n#### `code_with`-dashes\n"))
}

// anchors are the names by which the headings of a page can be linked to, as GitHub makes them.
func anchors(page string) (all []string) {
	times := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		times[name]++
		if n := times[name]; n > 1 {
			name += "-" + strconv.Itoa(n-1)
		}
		all = append(all, name)
	}
	return all
}
