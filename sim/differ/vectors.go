package differ

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed testdata/vectors/*.txt
var embedded embed.FS

const (
	vectorFolder = "testdata/vectors"
	vectorSuffix = ".txt"
)

// vectorNames are the names of the files of vectors, in alphabetical order.
func vectorNames() []string {
	entries, err := fs.ReadDir(embedded, vectorFolder)
	if err != nil {
		panic(err) // the folder is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), vectorSuffix))
	}
	return names
}

// vectorData is the text of a file of vectors.
func vectorData(name string) ([]byte, error) {
	return embedded.ReadFile(path.Join(vectorFolder, name+vectorSuffix))
}

// Vectors returns all files of vectors.
func Vectors() ([]*File, error) {
	var files []*File
	for _, name := range vectorNames() {
		data, err := vectorData(name)
		if err != nil {
			return nil, err
		}
		f, err := ParseVectors(name+vectorSuffix, data)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// Corpus returns the frames of all vectors that begin with an Ethernet header.
func Corpus() ([][]byte, error) {
	files, err := Vectors()
	if err != nil {
		return nil, fmt.Errorf("read the vectors: %w", err)
	}
	var frames [][]byte
	for _, f := range files {
		for i := range f.Vectors {
			c := &f.Vectors[i].Case
			if c.L3 {
				continue
			}
			for _, s := range c.Steps {
				if s.Kind == Packet {
					frames = append(frames, s.Frame)
				}
			}
		}
	}
	return frames, nil
}
