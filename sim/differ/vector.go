package differ

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/bpf"
)

// Vector is a case with what is to come of it.
type Vector struct {
	Name string
	Line int // in its file
	Case Case
	// Want is the outcome of each packet, and the table and what ended at the end.
	Want []string

	outcomes []int // places in File.kept behind which the packets' outcomes stand
	last     int   // place of the vector's last line there
}

// File is a file of vectors. testdata/vectors/README.md describes the format.
type File struct {
	Name    string
	Vectors []Vector
	kept    []string // its lines without what is expected
}

// The first characters of lines that say what is expected.
const (
	outcomeMark = "-> "
	stateMark   = "| "
)

// ParseVectors reads a file of vectors. Errors carry file and line.
func ParseVectors(name string, data []byte) (*File, error) {
	p := vectorParser{f: &File{Name: name}, names: map[string]bool{}}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.line++
		if err := p.parse(lines.Text()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, p.line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	for i := range p.f.Vectors {
		if v := &p.f.Vectors[i]; v.Case.packets() == 0 {
			return nil, fmt.Errorf("%s:%d: vector %q has no packet", name, v.Line, v.Name)
		}
	}
	return p.f, nil
}

// vectorParser is at some line of a file.
type vectorParser struct {
	f     *File
	v     *Vector // the last one of the file
	names map[string]bool
	line  int
	hex   bool // lines of hex digits may come
}

func (p *vectorParser) parse(text string) error {
	expected := strings.HasPrefix(text, outcomeMark) || strings.HasPrefix(text, stateMark)
	if !expected {
		p.f.kept = append(p.f.kept, text)
	}
	body, _, _ := strings.Cut(text, "#")
	words := strings.Fields(body)
	switch {
	case expected && p.v == nil, len(words) > 0 && words[0] != "==" && p.v == nil:
		return fmt.Errorf("a vector begins with \"== name\"")
	case expected:
		p.v.Want = append(p.v.Want, text)
		return nil
	case len(words) == 0:
		return nil
	case words[0] == "==":
		return p.begin(words[1:])
	}
	p.v.last = len(p.f.kept) - 1
	if strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\t") {
		return p.bytes(words)
	}
	p.hex = false
	if words[0] == "set" {
		return p.set(words[1:])
	}
	return p.step(words)
}

func (p *vectorParser) begin(words []string) error {
	if len(words) != 1 || p.names[words[0]] {
		return fmt.Errorf("want one name that no other vector has: %q", words)
	}
	p.names[words[0]] = true
	p.f.Vectors = append(p.f.Vectors, Vector{Name: words[0], Line: p.line, last: len(p.f.kept) - 1})
	p.v = &p.f.Vectors[len(p.f.Vectors)-1]
	p.hex = false
	return nil
}

// bytes reads a line of a packet's bytes.
func (p *vectorParser) bytes(words []string) error {
	if !p.hex {
		return fmt.Errorf("bytes stand behind \"packet\"")
	}
	b, err := hex.DecodeString(strings.Join(words, ""))
	if err != nil {
		return err
	}
	s := &p.v.Case.Steps[len(p.v.Case.Steps)-1]
	s.Frame = append(s.Frame, b...)
	p.v.outcomes[len(p.v.outcomes)-1] = len(p.f.kept) - 1
	if len(s.Frame) > maxFrame {
		return fmt.Errorf("a frame has at most %d bytes", maxFrame)
	}
	return nil
}

// set reads a setting of the vector's case.
func (p *vectorParser) set(words []string) error {
	c, err := &p.v.Case, error(nil)
	if len(c.Steps) > 0 {
		return fmt.Errorf("settings stand before the packets")
	}
	switch text := strings.Join(words, " "); {
	case text == "l3":
		c.L3 = true
	case text == "overflow":
		c.Overflow = true
	case text == "ring-full":
		c.RingFull = true
	case text == "no-mid-stream":
		c.NoMidStream = true
	case len(words) > 1 && words[0] == "tunnels":
		c.Tunnels = words[1:]
		_, err = bpf.ParseTunnels(c.Tunnels)
	case len(words) == 2 && words[0] == "sample":
		var n int
		n, err = number(words[1], 1, 1<<31-1)
		c.Sample = uint32(n)
	case len(words) > 1 && words[0] == "filters":
		c.Filters, err = parseFilter(strings.Join(words[1:], " "))
	case len(words) == 2 && words[0] == "table":
		c.Table, err = number(words[1], 1, 1<<16)
	case len(words) == 2 && words[0] == "takeover":
		c.Takeover, err = time.ParseDuration(words[1])
	case len(words) == 3 && words[0] == "lifetime":
		err = c.setLifetime(words[1], words[2])
	case len(words) == 3 && words[0] == "zone":
		err = c.setZone(words[1], words[2])
	default:
		err = fmt.Errorf("unknown setting %q", text)
	}
	return err
}

func (c *Case) setLifetime(state, text string) error {
	var s conntrack.State
	if err := s.UnmarshalText([]byte(state)); err != nil {
		return err
	}
	d, err := time.ParseDuration(text)
	if c.Lifetimes == nil {
		c.Lifetimes = map[conntrack.State]time.Duration{}
	}
	c.Lifetimes[s] = d
	return err
}

func (c *Case) setZone(hook, zone string) error {
	n, err := number(hook, 1, Hooks)
	if err != nil {
		return err
	}
	z, err := number(zone, 0, 1<<16-1)
	c.Zones[n] = uint16(z)
	return err
}

// number reads a whole number within bounds.
func number(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a number from %d to %d: %q", low, high, text)
	}
	return n, nil
}

// step reads the first line of a step.
func (p *vectorParser) step(words []string) error {
	s := Step{Hook: 1}
	switch words[0] {
	case "packet":
		p.hex = true
	case "again":
		frame := p.v.lastFrame()
		if frame == nil {
			return fmt.Errorf("no packet comes before")
		}
		s.Frame = slices.Clone(frame)
	case "sweep":
		s.Kind = Sweep
	case "report":
		s.Kind = Report
	default:
		return fmt.Errorf("unknown step %q", words[0])
	}
	if err := s.options(words[1:]); err != nil {
		return err
	}
	p.v.Case.Steps = append(p.v.Case.Steps, s)
	if s.Kind == Packet {
		p.v.outcomes = append(p.v.outcomes, len(p.f.kept)-1)
	}
	return nil
}

func (v *Vector) lastFrame() []byte {
	for _, s := range slices.Backward(v.Case.Steps) {
		if s.Kind == Packet {
			return s.Frame
		}
	}
	return nil
}

// options reads what follows the first word of a step.
func (s *Step) options(words []string) (err error) {
	for len(words) > 0 && err == nil {
		if words[0] == "tag" && s.Kind == Packet {
			s.Tag = true
			words = words[1:]
			continue
		}
		if len(words) < 2 {
			return fmt.Errorf("%q: want a value, or there is no such option", words[0])
		}
		switch {
		case words[0] == "after":
			s.Wait, err = time.ParseDuration(words[1])
		case words[0] == "hook" && s.Kind == Packet:
			s.Hook, err = number(words[1], 1, 1<<10-1)
		case words[0] == "segments" && s.Kind == Packet:
			s.Segments, err = number(words[1], 2, 1<<15)
		default:
			return fmt.Errorf("unknown option %q", words[0])
		}
		words = words[2:]
	}
	return err
}

// Update returns the text of the file with other expectations, one list for each vector.
func (f *File) Update(want [][]string) []byte {
	behind := map[int][]string{}
	for i := range f.Vectors {
		v, lines := &f.Vectors[i], want[i]
		for n, at := range v.outcomes {
			behind[at] = append(behind[at], lines[n])
		}
		behind[v.last] = append(behind[v.last], lines[len(v.outcomes):]...)
	}
	var b bytes.Buffer
	for i, line := range f.kept {
		for _, l := range append([]string{line}, behind[i]...) {
			fmt.Fprintln(&b, l)
		}
	}
	return b.Bytes()
}
