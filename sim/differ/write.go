package differ

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Write writes a finding into a folder: as a vector, which `weir sim vectors` plays exactly as
// it was found; as a scenario, as far as the language can say it; and as a capture. It returns
// the files.
func (f *Finding) Write(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var capture bytes.Buffer
	if err := f.Case.writeCapture(&capture); err != nil {
		return nil, fmt.Errorf("write the capture: %w", err)
	}
	base := filepath.Join(dir, fmt.Sprintf("fuzz-%d-%d", f.Seed, f.Number))
	files := []string{base + vectorSuffix, base + ".yaml", base + ".pcap"}
	return files, errors.Join(os.WriteFile(files[0], f.Vector(), 0o644),
		os.WriteFile(files[1], f.Scenario(), 0o644),
		os.WriteFile(files[2], capture.Bytes(), 0o644))
}

// Vector is the finding as a file with one vector that expects what the model says.
func (f *Finding) Vector() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Found by weir sim fuzz --seed %d, case %d: the model (-) and the datapath (+)\n",
		f.Seed, f.Number)
	for _, line := range f.Diff {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	fmt.Fprintf(&b, "\n== fuzz-%d-%d\n", f.Seed, f.Number)
	f.Case.settings(&b)
	want, err := trace(newReference(f.Case), f.Case)
	if err != nil {
		fmt.Fprintf(&b, "# the model's word is missing: %v\n", err)
		return b.Bytes()
	}
	for i := range f.Case.Steps {
		if f.Case.Steps[i].text(&b) {
			fmt.Fprintln(&b, want[0])
			want = want[1:]
		}
	}
	for _, line := range want {
		fmt.Fprintln(&b, line)
	}
	return b.Bytes()
}

// settings writes the settings that are not the default, as vectors do.
func (c *Case) settings(b *bytes.Buffer) {
	for _, s := range []struct {
		on   bool
		text string
	}{
		{c.L3, "l3"}, {c.Overflow, "overflow"}, {c.RingFull, "ring-full"},
		{c.NoMidStream, "no-mid-stream"},
		{len(c.Tunnels) > 0, "tunnels " + strings.Join(c.Tunnels, " ")},
		{c.Sample > 1, fmt.Sprintf("sample %d", c.Sample)},
		{c.filters() != "", "filters " + c.filters()},
		{c.Table != 0, fmt.Sprintf("table %d", c.Table)},
		{c.Takeover != 0, fmt.Sprintf("takeover %s", c.Takeover)},
	} {
		if s.on {
			fmt.Fprintf(b, "set %s\n", s.text)
		}
	}
	for n, zone := range c.Zones {
		if zone != 0 && n > 0 {
			fmt.Fprintf(b, "set zone %d %d\n", n, zone)
		}
	}
	for _, s := range states() {
		if d, ok := c.Lifetimes[s]; ok {
			fmt.Fprintf(b, "set lifetime %s %s\n", s, d)
		}
	}
}

// text writes a step as vectors do, and tells whether it was a packet.
func (s *Step) text(b *bytes.Buffer) bool {
	b.WriteString([]string{"packet", "sweep", "report"}[s.Kind])
	if s.Wait > 0 {
		fmt.Fprintf(b, " after %s", s.Wait)
	}
	if s.Kind != Packet {
		b.WriteByte('\n')
		return false
	}
	fmt.Fprintf(b, " hook %d", s.Hook)
	if s.Segments > 0 {
		fmt.Fprintf(b, " segments %d", s.Segments)
	}
	if s.Tag {
		b.WriteString(" tag")
	}
	b.WriteByte('\n')
	for line := range slices.Chunk(s.Frame, 32) {
		fmt.Fprintf(b, "  %x\n", line)
	}
	return true
}

// Scenario is the finding as a scenario. What scenarios cannot say stands in it as a comment.
func (f *Finding) Scenario() []byte {
	var b bytes.Buffer
	c := f.Case
	fmt.Fprintf(&b, "summary: found by weir sim fuzz --seed %d, case %d\n", f.Seed, f.Number)
	for _, line := range f.Diff {
		fmt.Fprintf(&b, "# %s\n", line)
	}
	b.WriteString(c.cannotSay())
	b.WriteString("topology:\n")
	for i, host := range []string{"client", "server"} {
		fmt.Fprintf(&b, "  %s:\n", host)
		for n := 1; n <= Hooks; n++ {
			fmt.Fprintf(&b, "    eth%d: [192.0.2.%d/30]\n", n, 4*n+1+i)
		}
	}
	var links, on string
	for n := 1; n <= Hooks; n++ {
		links += fmt.Sprintf("\n    - client/eth%d - server/eth%d", n, n)
		on += fmt.Sprintf(", server/eth%d", n)
	}
	fmt.Fprintf(&b, "  links:%s\nagent:\n  on: [%s]\n", links, on[2:])
	c.agentSettings(&b)
	b.WriteString("traffic:\n")
	for i := range c.Steps {
		s := c.Steps[i]
		if c.L3 {
			s.Frame = slices.Concat(linkHeader(s.Frame), s.Frame)
		}
		s.scenario(&b)
	}
	return b.Bytes()
}

// cannotSay lists, as comments, what the scenario leaves out of the case.
func (c *Case) cannotSay() string {
	var b bytes.Buffer
	note := func(on bool, text string) {
		if on {
			fmt.Fprintf(&b, "# not in this scenario: %s\n", text)
		}
	}
	some := func(has func(*Step) bool) bool {
		return slices.ContainsFunc(c.Steps, func(s Step) bool { return has(&s) })
	}
	note(c.L3, "frames begin with the IP header")
	note(c.RingFull, "the ring buffer is full")
	note(c.Zones != Case{}.Zones, fmt.Sprintf("zones of the hooks %v", c.Zones[1:]))
	note(c.Takeover != 0, fmt.Sprintf("takeover %v", c.Takeover))
	note(some(func(s *Step) bool { return s.Segments > 0 }), "packets that stand for several")
	note(some(func(s *Step) bool { return s.Tag }), "tags beside the frame")
	note(some(func(s *Step) bool { return s.Kind != Packet }), "when garbage is collected and reports are made")
	return b.String()
}

func (c *Case) agentSettings(b *bytes.Buffer) {
	fmt.Fprintf(b, "  table: %d\n", c.table())
	if c.Overflow {
		b.WriteString("  table_full: overflow\n")
	}
	if c.NoMidStream {
		b.WriteString("  mid_stream: false\n")
	}
	if len(c.Tunnels) > 0 {
		fmt.Fprintf(b, "  tunnels: [%s]\n", strings.Join(c.Tunnels, ", "))
	}
	if c.Sample > 1 {
		fmt.Fprintf(b, "  sample: %d\n", c.Sample)
	}
	if text := c.filters(); text != "" {
		fmt.Fprintf(b, "  filters: %s\n", text)
	}
	if len(c.Lifetimes) > 0 {
		b.WriteString("  lifetimes:\n")
	}
	for _, s := range states() {
		if d, ok := c.Lifetimes[s]; ok {
			fmt.Fprintf(b, "    %s: %s\n", s, plain(d))
		}
	}
}

// scenario writes a step as scenarios do.
func (s *Step) scenario(b *bytes.Buffer) {
	if s.Wait > 0 {
		fmt.Fprintf(b, "  - advance: %s\n", plain(s.Wait))
	}
	if s.Kind != Packet || len(s.Frame) < linkBytes || s.Hook < 1 || s.Hook > Hooks {
		return
	}
	mac := func(b []byte) string {
		return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
	}
	fmt.Fprintf(b, "  - packet: client/eth%d > server/eth%d\n    layers:\n", s.Hook, s.Hook)
	fmt.Fprintf(b, "      - ethernet: {interface: eth%d, dst: %q, src: %q, type: 0x%04x}\n", s.Hook,
		mac(s.Frame), mac(s.Frame[6:]), binary.BigEndian.Uint16(s.Frame[12:]))
	if len(s.Frame) > linkBytes {
		fmt.Fprintf(b, "      - raw: \"%x\"\n", s.Frame[linkBytes:])
	}
}

// plain writes a length of time in ASCII, as scenarios have it.
func plain(d time.Duration) string { return strings.ReplaceAll(d.String(), "µ", "u") }
