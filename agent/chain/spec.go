package chain

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/chain/artifact"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/mapargs"
	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/yamlfile"
)

// Spec is what a host's chains shall be.
type Spec struct {
	Chains []Chain `yaml:"chains" json:"chains"`
}

// Key names a chain: there is one at each hook of each interface.
type Key struct {
	// Namespace is the interface's network namespace by name (below /run/netns) or path; empty: weir's own.
	Namespace string    `yaml:"namespace" json:"namespace,omitempty"`
	Interface string    `yaml:"interface" json:"interface"`
	Hook      hook.Kind `yaml:"hook" json:"hook"`
}

// String is the key for people.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Interface + " " + string(k.Hook)
	}
	return k.Namespace + "/" + k.Interface + " " + string(k.Hook)
}

// Chain is what one chain shall be.
type Chain struct {
	Key `yaml:",inline"`
	// Backend is how it is attached and its members are wired, one of Backends; empty: the best that there is.
	Backend string `yaml:"backend" json:"backend,omitempty"`
	// Place is where it is put among the programs of other owners.
	Place   hook.Place `yaml:"place" json:"place,omitzero"`
	Members []Member   `yaml:"members" json:"members"`
}

// Member is a program of a chain: an object's, or one of weir's own.
type Member struct {
	Name string `yaml:"name" json:"name"` // unique in the chain
	// Priority orders the members, lowest first; equal ones by name.
	Priority int `yaml:"priority" json:"priority"`
	// Stage makes a member of one of weir's own programs, one of StageNames: it has no object then. Not in XDP.
	Stage string `yaml:"stage" json:"stage,omitempty"`
	// Object is where an eBPF object is: an artifact.Source. In a file, paths are relative to the file's
	// folder.
	Object string `yaml:"object" json:"object,omitempty"`
	// SHA256 is the object's checksum, in hexadecimal; empty: whatever there is, but not from a server.
	SHA256 string `yaml:"sha256" json:"sha256,omitempty"`
	// Signature is where the object's signature is, as Object; empty: beside it, with .sig behind its name. It
	// is looked at where keys are trusted.
	Signature string `yaml:"signature" json:"signature,omitempty"`
	// Program is the program in the object; empty: the only one that fits the hook.
	Program string `yaml:"program" json:"program,omitempty"`
	// ProceedOn are the verdicts with which a packet goes on to the next member; absent: those that let
	// it pass. With any other verdict the chain ends.
	ProceedOn []string `yaml:"proceed_on" json:"proceed_on"`
	// Disabled members are left out.
	Disabled bool `yaml:"disabled" json:"disabled,omitempty"`
	// Fail says what becomes of a packet after this member when the chain is broken: FailOpen (also "")
	// lets it pass, FailClosed drops it.
	Fail string `yaml:"fail" json:"fail,omitempty"`
	// Constants are values for the object's global constants (volatile const integers).
	Constants map[string]int64 `yaml:"constants" json:"constants,omitempty"`
	// Maps are what maps of the object hold when the member starts.
	Maps map[string]mapargs.Args `yaml:"maps" json:"maps,omitempty"`
	// Metrics are what is measured of maps of the object, under an agent.
	Metrics []Metric `yaml:"metrics" json:"metrics,omitempty"`
	// Process is the member's user-space part; nil: it has none.
	Process *process.Spec `yaml:"process" json:"process,omitempty"`
	// Annotations are kept with the member, and change nothing.
	Annotations map[string]string `yaml:"annotations" json:"annotations,omitempty"`
}

// The values of Member.Fail.
const (
	FailOpen   = "open"
	FailClosed = "closed"
)

// FieldError says what is wrong with a field of a Spec.
type FieldError struct {
	Path string // like chains[0].members[1].name
	Err  error
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

func wrong(path, format string, args ...any) error {
	return &FieldError{path, fmt.Errorf(format, args...)}
}

// Parse reads a chain file, strictly. Errors say file, line and column.
func Parse(file string, data []byte) (*Spec, error) {
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil, fmt.Errorf("%s: the file is empty; at least `chains` is needed", file)
	}
	var s Spec
	if err := yamlfile.Decode(file, data, &s); err != nil {
		return nil, err
	}
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", file, err)
	}
	for i := range s.Chains {
		for j := range s.Chains[i].Members {
			m := &s.Chains[i].Members[j]
			m.Object = artifact.Rooted(m.Object, folder)
			m.Signature = artifact.Rooted(m.Signature, folder)
		}
	}
	if err := s.Check(); err != nil {
		return nil, placed(file, data, err)
	}
	return &s, nil
}

// placed adds the place of a field, or of the nearest one around it that is there.
func placed(file string, data []byte, err error) error {
	var f *FieldError
	if !errors.As(err, &f) {
		return fmt.Errorf("%s: %w", file, err)
	}
	return fmt.Errorf("%s: %w", yamlfile.Place(file, data, f.Path), f)
}

// Check tells what is wrong with a spec, as a FieldError.
func (s *Spec) Check() error {
	if len(s.Chains) == 0 {
		return wrong("chains", "is empty; to remove chains, delete them")
	}
	seen := map[Key]bool{}
	for i := range s.Chains {
		path := fmt.Sprintf("chains[%d]", i)
		if err := s.Chains[i].check(path); err != nil {
			return err
		}
		if seen[s.Chains[i].Key] {
			return wrong(path, "%s: there are two such chains", s.Chains[i].Key)
		}
		seen[s.Chains[i].Key] = true
	}
	return nil
}

func (c *Chain) check(path string) error {
	if c.Interface == "" {
		return wrong(path+".interface", "is missing")
	}
	if _, err := hook.ParseKind(string(c.Hook)); err != nil {
		return wrong(path+".hook", "%w", err)
	}
	if all := Backends(c.Hook); c.Backend != "" && !slices.Contains(all, c.Backend) {
		return wrong(path+".backend", "%q; want one of %q for %s", c.Backend, all, c.Hook)
	}
	if err := c.Place.Check(); err != nil {
		return wrong(path+".place", "%w", err)
	}
	if n := len(c.enabled()); n > c.maxMembers() {
		return wrong(path+".members", "%d are enabled; a chain has at most %d", n, c.maxMembers())
	}
	if err := c.stageTwice(path); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i := range c.Members {
		m, path := &c.Members[i], fmt.Sprintf("%s.members[%d]", path, i)
		if err := m.check(path, c.Hook); err != nil {
			return err
		}
		if seen[m.Name] {
			return wrong(path+".name", "there are two members %q", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

// memberName is what names of pins allow, and the planner's "" for none.
var memberName = regexp.MustCompile(`^[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*$`)

// maxName is the longest name of a member.
const maxName = 63

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (m *Member) check(path string, kind hook.Kind) error {
	switch {
	case !memberName.MatchString(m.Name) || len(m.Name) > maxName:
		return wrong(path+".name", "%q; want letters, digits, _ and single - between them, at most %d",
			m.Name, maxName)
	case m.Object == "" && m.Stage == "":
		return wrong(path+".object", "is missing; want where an eBPF object is, or `stage`")
	case m.SHA256 != "" && !hexSum.MatchString(m.SHA256):
		return wrong(path+".sha256", "%q; want 64 hexadecimal digits in lower case", m.SHA256)
	case m.Fail != "" && m.Fail != FailOpen && m.Fail != FailClosed:
		return wrong(path+".fail", "%q; want %s or %s", m.Fail, FailOpen, FailClosed)
	}
	if m.Stage != "" {
		return m.checkStage(path, kind)
	}
	if err := m.checkSources(path); err != nil {
		return err
	}
	if err := m.checkProcess(path + ".process"); err != nil {
		return err
	}
	for i, v := range m.ProceedOn {
		if _, err := kind.Verdict(v); err != nil {
			return wrong(fmt.Sprintf("%s.proceed_on[%d]", path, i), "%w", err)
		}
		if slices.Contains(m.ProceedOn[:i], v) {
			return wrong(fmt.Sprintf("%s.proceed_on[%d]", path, i), "%q is there twice", v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Maps)) {
		if err := m.Maps[name].Check(); err != nil {
			return wrong(path+".maps."+name, "%w", err)
		}
	}
	for i, metric := range m.Metrics {
		path := fmt.Sprintf("%s.metrics[%d]", path, i)
		if err := metric.check(path); err != nil {
			return err
		}
		if slices.Contains(m.Metrics[:i], metric) {
			return wrong(path, "it is there twice")
		}
	}
	return nil
}

func (m *Member) checkSources(path string) error {
	source, err := artifact.Parse(m.Object)
	if err != nil {
		return wrong(path+".object", "%w", err)
	}
	if source.Remote() && m.SHA256 == "" {
		return wrong(path+".sha256", "is missing: %w; `weir chain sum` tells it", artifact.ErrUnpinned)
	}
	if m.Signature == "" {
		return nil
	}
	if _, err := artifact.Parse(m.Signature); err != nil {
		return wrong(path+".signature", "%w", err)
	}
	return nil
}

func (m *Member) checkProcess(path string) error {
	if m.Process == nil {
		return nil
	}
	if field, err := m.Process.Check(); err != nil {
		return wrong(path+"."+field, "%w", err)
	}
	source, err := artifact.Parse(m.Object)
	if err != nil {
		return err // checked before
	}
	file, _, err := source.Executable(m.Process.Command)
	switch {
	case err != nil:
		return wrong(path+".command", "%w", err)
	case file.Remote() && m.Process.SHA256 == "":
		return wrong(path+".sha256", "is missing: what a server sends is not executed without it")
	}
	return nil
}

// proceed are the verdicts that the member proceeds on.
func (m *Member) proceed(kind hook.Kind) []hook.Verdict {
	names := m.ProceedOn
	if names == nil {
		names = kind.Passing()
	}
	all := []hook.Verdict{}
	for _, n := range names {
		if v, err := kind.Verdict(n); err == nil { // checked before
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

// enabled are the members that run, in their order.
func (c *Chain) enabled() []*Member {
	var all []*Member
	for i := range c.Members {
		if !c.Members[i].Disabled {
			all = append(all, &c.Members[i])
		}
	}
	slices.SortFunc(all, func(a, b *Member) int {
		return order(a.Priority, a.Name, b.Priority, b.Name)
	})
	return all
}

// order compares the places of two members.
func order(p int, name string, otherP int, other string) int {
	return cmp.Or(cmp.Compare(p, otherP), strings.Compare(name, other))
}
