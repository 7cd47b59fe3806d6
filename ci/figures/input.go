package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// sound is a scenario without a mistake; the cases replace a part of it.
const sound = `summary: a client pings a server
topology:
  client: {eth0: [10.0.0.1/24]}
  server: {eth0: [10.0.0.2/24]}
  links: [client/eth0 - server/eth0]
agent: {on: [server/eth0]}
traffic:
  - ping: client > server
`

// input is a bad scenario file.
type input struct {
	name string
	text func() []byte
	// says must be in the message. A place is a line and a column of the mistake, when there is
	// one.
	says, place string
}

var inputs = []input{
	{"typo", edited("traffic:", "trafic:"), "traffic", "7:1"},
	{"missing-interface", edited("on: [server/eth0]", "on: [server/eth9]"), "eth9", "6:14"},
	{"unreachable-host", edited("10.0.0.2/24", "10.0.1.2/24"), "cannot reach", "8:"},
	{"empty", func() []byte { return nil }, "empty", ""},
	{"noise", noise, "bytes", ""},
	{"short-noise", func() []byte { return noise()[:64<<10] }, "", ""},
}

func edited(old, text string) func() []byte {
	return func() []byte { return []byte(strings.Replace(sound, old, text, 1)) }
}

// noise is 10 MB of bytes without a meaning, always the same ones.
func noise() []byte {
	data := make([]byte, 10<<20)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data) // it never fails
	return data
}

// readers are the commands that read scenario files.
var readers = [][]string{
	{"sim", "lint"},
	{"sim", "list"},
	{"sim", "run"},
	{"vm", "run", "--kernel", oneKernel},
}

// badInput gives every bad file to every command that reads them.
func (m *meter) badInput(ctx context.Context) figure {
	dir, err := os.MkdirTemp("", "weir-figures-*")
	if err != nil {
		return notMeasured("%v", err)
	}
	defer os.RemoveAll(dir)
	dir = filepath.Join(dir, "scenarios")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return notMeasured("%v", err)
	}
	n := 0
	var wrong []string
	for _, in := range inputs {
		file := filepath.Join(dir, in.name+".yaml")
		if err := os.WriteFile(file, in.text(), 0o644); err != nil {
			return notMeasured("%v", err)
		}
		for _, command := range readers {
			n++
			name := strings.Join(command[:2], " ") + " " + in.name
			o := m.weir(ctx, nil, append(command[:len(command):len(command)], file)...)
			if command[1] == "lint" {
				o = o.firstProblem()
			}
			if err := in.check(o, file); err != nil {
				wrong = append(wrong, name+": "+err.Error())
				fmt.Fprintf(m.progress, "%s: %v\n", name, err)
			}
		}
	}
	note := fmt.Sprintf("%d files, %d commands", len(inputs), len(readers))
	if len(wrong) > 0 {
		note = wrong[0]
	}
	return none(len(wrong), n, "wrong", note)
}

// firstProblem is what lint found, as if a command had refused the file for it: problems are what
// lint is asked for, so they are its standard output, with their number below.
func (o outcome) firstProblem() outcome {
	problem, _, _ := strings.Cut(o.stdout, "\n")
	o.stdout, o.stderr = "", problem
	return o
}

// Bounds of a clear message.
const (
	messageLimit = 300 // bytes, file name aside
	timeLimit    = 5 * time.Second
)

// unprintable is what a message must not carry to a terminal.
var unprintable = regexp.MustCompile(`[^\n\t\x20-\x7e]`)

// check tells what is wrong with the way in which a bad file was refused: it wants exit code 2
// and one line that names the file, the place and the mistake.
func (in input) check(o outcome, file string) error {
	text := strings.TrimSuffix(o.stderr, "\n")
	switch {
	case o.code != result.ExitUsage:
		return fmt.Errorf("%s, want exit code %d", o, result.ExitUsage)
	case o.stdout != "":
		return fmt.Errorf("it says on standard output %q", o.stdout[:min(80, len(o.stdout))])
	case strings.TrimSpace(text) == "":
		return fmt.Errorf("it does not say what is wrong")
	case strings.Contains(text, "\n"):
		return fmt.Errorf("it needs %d lines", 1+strings.Count(text, "\n"))
	case unprintable.MatchString(text):
		return fmt.Errorf("the message is not plain text: %q", text)
	case !strings.Contains(text, file) && !strings.Contains(text, filepath.Base(file)):
		return fmt.Errorf("it does not name the file: %s", text)
	case len(text) > messageLimit+len(file):
		return fmt.Errorf("the message has %d bytes", len(text))
	case !strings.Contains(text, in.says):
		return fmt.Errorf("it does not say %q: %s", in.says, text)
	case !strings.Contains(text, filepath.Base(file)+":"+in.place):
		return fmt.Errorf("it does not name the place %s: %s", in.place, text)
	case o.took > timeLimit:
		return fmt.Errorf("it takes %s", seconds(o.took))
	}
	return nil
}
