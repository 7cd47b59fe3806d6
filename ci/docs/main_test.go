package main

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestBroken(t *testing.T) {
	s, err := read(fstest.MapFS{
		"index.html": file(`<a href="docs/a.html#one">good</a> <a href="docs/b.html">bad</a>` +
			`<a href="https://example.org/x#y">elsewhere</a> <img src="docs/a.png"> <img src="docs/b.png">`),
		"docs/a.html": file(`<h1 id="one">1</h1> <a href="#one">good</a> <a href="#two">bad</a> <a href="../index.html">good</a>` +
			`<a href="` + repository + `main.go#L1">good</a> <a href="` + repository + `mian.go">bad</a>`),
		"docs/a.png": file(""),
	})
	require.NoError(t, err)
	require.Equal(t, 10, s.links)
	require.Equal(t, []string{
		"docs/a.html: #two: no such anchor",
		"docs/a.html: " + repository + "mian.go: no such file in the repository",
		"index.html: docs/b.html: no such page",
		"index.html: docs/b.png: no such page",
	}, s.broken(fstest.MapFS{"main.go": file("")}))
	_, err = read(fstest.MapFS{})
	require.Error(t, err, "a site without pages is not one without broken links")
}
