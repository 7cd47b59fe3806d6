package kernel

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Newest and Candidate are the lines that move: the newest release of the archive, and its
// newest release candidate.
const (
	Newest    = "newest"
	Candidate = "rc"
)

// Every stands for all lines that the archive has; the Store knows which.
const Every = "all"

// Matrix is what runs when nobody chooses: the oldest supported line, the long-term lines, the
// line before the newest, the newest release and the newest release candidate.
//
// "7.x" is the newest line of that major version below the line of "newest", so that the two are
// never the same kernel under two names.
var Matrix = []string{"5.10", "6.1", "6.12", "6.18", "7.x", Newest, Candidate}

var (
	numbered = regexp.MustCompile(`^[1-9][0-9]*\.[0-9]+$`)
	major    = regexp.MustCompile(`^([1-9][0-9]*)\.x$`)
)

// Optional tells whether a run may go on, green, without this line: the lines that move are not
// always there.
func Optional(line string) bool { return line == Newest || line == Candidate }

// IsPath tells whether a line names files on this machine rather than a line of the archive.
func IsPath(line string) bool { return strings.ContainsRune(line, os.PathSeparator) }

// ParseLines reads a comma-separated choice of lines. "matrix" and "" stand for Matrix; repeated
// lines count once. The error names the word that is no line.
func ParseLines(s string) ([]string, error) {
	if s == "" {
		s = "matrix"
	}
	var lines []string
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		add := []string{word}
		switch {
		case word == "matrix":
			add = Matrix
		case word == Every, Optional(word), IsPath(word), numbered.MatchString(word), major.MatchString(word):
		default:
			return nil, fmt.Errorf("unknown kernel %q: want a line (6.12), N.x (7.x), %s, %s, "+
				"matrix, %s, or a path with a slash", word, Newest, Candidate, Every)
		}
		for _, l := range add {
			if !slices.Contains(lines, l) {
				lines = append(lines, l)
			}
		}
	}
	return lines, nil
}
