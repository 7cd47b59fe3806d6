// Command docs checks the links of the site that `make docs` builds: every page, picture and anchor that a
// page names must be there, and every file that it names in the repository. It asks no network.
//
// Usage: go run ./ci/docs SITE REPOSITORY
package main

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// repository is where the site shows files that are no pages of its own, as docs/site/hugo.yaml says.
const repository = "https://github.com/weirnet/weir/blob/main/"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: docs SITE REPOSITORY")
		os.Exit(2)
	}
	s, err := read(os.DirFS(os.Args[1]))
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(2)
	}
	broken := s.broken(os.DirFS(os.Args[2]))
	for _, b := range broken {
		fmt.Fprintln(os.Stderr, b)
	}
	if len(broken) > 0 {
		os.Exit(1)
	}
	fmt.Printf("%s: %d pages, %d links, none of them broken\n", filepath.Clean(os.Args[1]), len(s.pages), s.links)
}

// site is what a folder of HTML has.
type site struct {
	files fs.FS
	pages map[string]page
	links int
}

// page is what a page names, and what it can be named by.
type page struct {
	links []string
	ids   map[string]bool
}

func read(files fs.FS) (*site, error) {
	s := &site{files: files, pages: map[string]page{}}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".html" {
			return err
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		p, err := parse(f)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		s.pages[name] = p
		s.links += len(p.links)
		return nil
	})
	if err == nil && len(s.pages) == 0 {
		err = fmt.Errorf("there are no pages")
	}
	return s, err
}

func parse(r io.Reader) (page, error) {
	p := page{ids: map[string]bool{}}
	for t := html.NewTokenizer(r); ; {
		if t.Next() == html.ErrorToken {
			if t.Err() == io.EOF {
				return p, nil
			}
			return p, t.Err()
		}
		for _, a := range t.Token().Attr {
			switch a.Key {
			case "href", "src":
				p.links = append(p.links, a.Val)
			case "id":
				p.ids[a.Val] = true
			}
		}
	}
}

// broken tells of each link that leads nowhere; tree is the repository.
func (s *site) broken(tree fs.FS) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.pages)) {
		for _, link := range s.pages[name].links {
			if why := s.check(tree, name, link); why != "" {
				all = append(all, fmt.Sprintf("%s: %s: %s", name, link, why))
			}
		}
	}
	return all
}

// check says what is wrong with a link of a page; nothing, for one to elsewhere.
func (s *site) check(tree fs.FS, from, link string) string {
	if file, ok := strings.CutPrefix(link, repository); ok {
		file, _, _ = strings.Cut(file, "#")
		if _, err := fs.Stat(tree, file); err != nil {
			return "no such file in the repository"
		}
		return ""
	}
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return ""
	}
	file, id, _ := strings.Cut(link, "#")
	target := from
	if file != "" {
		target = path.Join(path.Dir(from), file)
	}
	if _, err := fs.Stat(s.files, target); err != nil {
		return "no such page"
	}
	if id != "" && !s.pages[target].ids[id] {
		return "no such anchor"
	}
	return ""
}
