package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/meter"
	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/prometheus"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/labeler/static"
	"github.com/weirnet/weir/agent/monitor"
	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/sim/coverage"
	"github.com/weirnet/weir/sim/golden"
	"github.com/weirnet/weir/sim/suite"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/report"
)

// docs are the pages that this test holds against the program: those of the site, by their path.
func docs(t *testing.T) map[string]string {
	text, err := os.ReadFile("docs/site/data/nav.yaml")
	require.NoError(t, err)
	var nav []struct {
		Section string
		Pages   []struct{ Path, Title string }
	}
	require.NoError(t, yaml.UnmarshalWithOptions(text, &nav, yaml.Strict()))
	pages := map[string]string{}
	for _, section := range nav {
		require.NotEmpty(t, section.Section)
		for _, p := range section.Pages {
			text, err := os.ReadFile(p.Path)
			require.NoError(t, err)
			require.NotContains(t, pages, p.Path, "twice in the navigation")
			require.NotEmpty(t, p.Title, p.Path)
			pages[p.Path] = string(text)
		}
	}
	return pages
}

var (
	fence = regexp.MustCompile("(?ms)^```(\\w*) ?(\\w*)\n(.*?)^```")
	span  = regexp.MustCompile("`([^`\n]+)`")
)

// shell gives the lines of a page's shell blocks, which readers copy.
func shell(page string) (all []string) {
	for _, b := range fence.FindAllStringSubmatch(page, -1) {
		if b[1] == "sh" {
			all = append(all, strings.Split(b[3], "\n")...)
		}
	}
	return all
}

// code gives the commands of a page: lines of its shell blocks, and code spans.
func code(page string) []string {
	all := shell(page)
	for _, b := range fence.FindAllStringSubmatch(page, -1) {
		if b[1] == "" {
			all = append(all, strings.Split(b[3], "\n")...)
		}
	}
	for _, s := range span.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		all = append(all, s[1])
	}
	return all
}

// TestDocsCommands checks that every command, flag and make target of the pages exists.
func TestDocsCommands(t *testing.T) {
	c := newChecker(t)
	checked := 0
	for file, page := range docs(t) {
		for _, line := range code(page) {
			n, err := c.line(line)
			if err != "" {
				t.Errorf("%s: %s: %s", file, line, err)
			}
			checked += n
		}
	}
	require.Greater(t, checked, 30)
}

// TestDocsParse checks that each command of weir in a shell block is one that weir takes: its flags have values
// that they can have, and no argument is missing.
func TestDocsParse(t *testing.T) {
	checked := 0
	for file, page := range docs(t) {
		for _, line := range shell(page) {
			for _, args := range weirCommands(line) {
				checked++
				require.NoError(t, parses(args), "%s: %s", file, line)
			}
		}
	}
	require.Greater(t, checked, 50)
	for _, line := range []string{"weir ct resize", "weir flows --top many", "sudo out/weir report merge part1", "weir vm walk"} {
		require.Error(t, parses(weirCommands(line)[0]), line)
	}
}

// weirCommands gives the arguments of each call of weir in a line of shell.
func weirCommands(line string) (all [][]string) {
	for _, part := range separator.Split(line, -1) {
		words := plainWords(part)
		if len(words) == 0 || words[0] != "weir" && words[0] != "out/weir" {
			continue
		}
		if at := slices.Index(words, ">"); at >= 0 {
			words = words[:at]
		}
		all = append(all, words[1:])
	}
	return all
}

// parses tells whether weir would run what it is called with.
func parses(args []string) error {
	root := command()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	cmd, args, err := root.Find(args)
	if err == nil {
		cmd.InitDefaultHelpFlag()
		err = cmd.ParseFlags(args)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil {
		err = cmd.ValidateRequiredFlags()
	}
	return err
}

// TestDocsChecker checks that the checker finds what is wrong.
func TestDocsChecker(t *testing.T) {
	c := newChecker(t)
	for line, want := range map[string]string{
		"weir vm run --kernel 5.10,newest --run '^tcp/' scenarios": "",
		"sudo out/weir ct list -o json --socket /run/x":            "",
		"$ make vmtest KERNELS=5.10":                               "",
		"make figures FIGURES='--only one-warm'":                   "",
		"go run ./ci/figures --only one-warm":                      "",
		"weir agent eth0 veth1":                                    "",
		"--update":                                                 "",
		"CI":                                                       "",
		"weir agent featurs":                                       "no command featurs",
		"weir vm walk":                                             "no command walk",
		"weir vm run --kernels 5.10":                               "no flag --kernels",
		"weir ct list -x":                                          "no flag -x",
		"weir sim run a && weir simm":                              "no command simm",
		"make vmtests":                                             "no target vmtests",
		"make vmtest KERNEL=6.1":                                   "no variable KERNEL",
		"make figures FIGURES='--olny one-warm'":                   "no flag --olny",
		"go run ./ci/figures --olny one-warm":                      "no flag --olny",
		"--updaet":                                                 "no flag --updaet",
	} {
		_, err := c.line(line)
		require.Equal(t, want, err, line)
	}
}

// checker knows the commands.
type checker struct {
	root     *cobra.Command
	makefile string
	figures  string
	anyFlags map[string]bool
}

// separator stands between the commands of a line.
var separator = regexp.MustCompile(`&&|\|\||;|\s\|\s`)

// plainWords are those of a command, without what stands before its name.
func plainWords(part string) []string {
	words := shellWords(strings.TrimPrefix(strings.TrimSpace(part), "$ "))
	for len(words) > 0 && (words[0] == "sudo" || assignment.MatchString(words[0])) {
		words = words[1:]
	}
	return words
}

func newChecker(t *testing.T) *checker {
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	figures, err := os.ReadFile("ci/figures/main.go")
	require.NoError(t, err)
	c := &checker{root: command(), makefile: string(makefile), figures: string(figures), anyFlags: map[string]bool{}}
	c.root.InitDefaultHelpCmd()
	c.root.InitDefaultCompletionCmd()
	c.root.InitDefaultVersionFlag()
	c.collect(c.root)
	return c
}

func (c *checker) collect(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { c.anyFlags["--"+f.Name] = true })
	for _, sub := range cmd.Commands() {
		c.collect(sub)
	}
}

// line checks the commands of a line; it tells how many it knew, and what is wrong.
func (c *checker) line(line string) (known int, wrong string) {
	for _, part := range separator.Split(line, -1) {
		words := plainWords(part)
		if len(words) == 0 {
			continue
		}
		known++
		switch {
		case words[0] == "weir" || words[0] == "out/weir":
			wrong = c.weir(words[1:])
		case words[0] == "make":
			wrong = c.make(words[1:])
		case len(words) > 2 && strings.Join(words[:3], " ") == "go run ./ci/figures":
			wrong = c.figuresFlags(words[3:])
		case len(words) == 1 && strings.HasPrefix(words[0], "--"):
			if !c.anyFlags[words[0]] && c.figuresFlags(words) != "" {
				wrong = "no flag " + words[0]
			}
		default:
			known--
		}
		if wrong != "" {
			return known, wrong
		}
	}
	return known, ""
}

// weir walks down the tree of commands.
func (c *checker) weir(words []string) string {
	cmd := c.root
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if strings.HasPrefix(word, "-") && word != "-" {
			name, _, given := strings.Cut(word, "=")
			var f *pflag.Flag
			_ = cmd.InheritedFlags() // merges what the commands above have
			if long, ok := strings.CutPrefix(name, "--"); ok {
				f = cmd.Flag(long)
			} else {
				f = cmd.Flags().ShorthandLookup(name[1:2])
			}
			if f == nil {
				return "no flag " + name
			}
			if f.NoOptDefVal == "" && !given && len(words) > 0 {
				words = words[1:] // its value
			}
			continue
		}
		if !cmd.HasSubCommands() {
			continue // an argument
		}
		i := slices.IndexFunc(cmd.Commands(), func(s *cobra.Command) bool { return s.Name() == word })
		if i < 0 && cmd.ValidateArgs([]string{word}) == nil && strings.ContainsAny(word, "0123456789") {
			continue // an argument of a command that has others below it: an interface
		}
		if i < 0 {
			return "no command " + word
		}
		cmd = cmd.Commands()[i]
	}
	return ""
}

var assignment = regexp.MustCompile(`^([A-Z_]+)=(.*)`)

// make checks targets and variables.
func (c *checker) make(words []string) string {
	for _, w := range words {
		if m := assignment.FindStringSubmatch(w); m != nil {
			if !strings.Contains(c.makefile, "\n"+m[1]+" ?=") {
				return "no variable " + m[1]
			}
			if m[1] == "FIGURES" {
				return c.figuresFlags(shellWords(m[2]))
			}
			continue
		}
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(w) + `:`).MatchString(c.makefile) {
			return "no target " + w
		}
	}
	return ""
}

func (c *checker) figuresFlags(words []string) string {
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		long, ok := strings.CutPrefix(name, "--")
		if ok && !strings.Contains(c.figures, `, "`+long+`", `) {
			return "no flag " + name
		}
	}
	return ""
}

// shellWords splits a line at blanks, minds quotes, and drops a comment.
func shellWords(line string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`(?:[^\s'"]|'[^']*'|"[^"]*")+`).FindAllString(line, -1) {
		if strings.HasPrefix(m, "#") {
			break
		}
		words = append(words, strings.NewReplacer("'", "", `"`, "").Replace(m))
	}
	return words
}

// TestDocsCoverage holds the page on what scenarios cover against them.
func TestDocsCoverage(t *testing.T) {
	jobs, err := suite.Find(nil, nil)
	require.NoError(t, err)
	table, err := coverage.New(jobs)
	require.NoError(t, err)
	var page strings.Builder
	require.NoError(t, table.Markdown(&page))
	require.Equal(t, page.String(), docs(t)["docs/coverage.md"],
		"write it anew: weir sim coverage > docs/coverage.md")
}

// TestDocsExamples checks that examples are what they claim to be.
func TestDocsExamples(t *testing.T) {
	readme := docs(t)["README.md"]
	for _, file := range []string{
		"scenarios/tcp/request-response.yaml", "golden/tcp/request-response.yaml",
	} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, readme, "`"+file+"`:\n\n```yaml\n"+string(text)+"```\n")
	}
	guide := docs(t)["docs/scenarios.md"]
	examples, err := filepath.Glob("docs/examples/*/*.yaml")
	require.NoError(t, err)
	deeper, err := filepath.Glob("docs/examples/scenarios/*/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(examples)+len(deeper), 12)
	for _, file := range append(examples, deeper...) {
		if strings.Contains(file, "/golden/") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Contains(t, guide, "`"+file+"`:\n\n```yaml\n"+string(text)+"```\n")
	}
	seen := map[string]bool{}
	for file, page := range docs(t) {
		if strings.HasPrefix(file, "sim/spec/") {
			continue // has tests of its own: its agent is a scenario's
		}
		for _, b := range fence.FindAllStringSubmatch(page, -1) {
			var err error
			switch seen[b[2]] = true; b[2] {
			case "agent":
				_, err = agent.ParseConfig(file, []byte(b[3]))
			case "labels":
				_, err = static.Parse(file, []byte(b[3]), 0)
			case "chain":
				_, err = chain.Parse(file, []byte(b[3]))
			case "golden":
				_, err = golden.Decode(file, []byte(b[3]))
			}
			require.NoError(t, err, b[3])
			if b[1] == "json" {
				out, err := golden.ParseOutput(file, []byte(b[3]))
				require.NoError(t, err)
				require.Len(t, out.Flows, 1)
			}
		}
	}
	require.True(t, seen["agent"] && seen["chain"] && seen["golden"] && seen["labels"])
}

// TestDocsFields checks the tables of JSON fields: all of them, in their order.
func TestDocsFields(t *testing.T) {
	page := docs(t)["docs/formats.md"]
	for name, kind := range map[string]reflect.Type{
		"flow.Record":         reflect.TypeFor[flow.Record](),
		"flow.NAT":            reflect.TypeFor[flow.NAT](),
		"flow.Hook":           reflect.TypeFor[flow.Hook](),
		"flow.Labels":         reflect.TypeFor[flow.Labels](),
		"flow.Drop":           reflect.TypeFor[flow.Drop](),
		"flow.DNS":            reflect.TypeFor[flow.DNS](),
		"flow.Lookups":        reflect.TypeFor[flow.Lookups](),
		"flow.Handshake":      reflect.TypeFor[flow.Handshake](),
		"conntrack.Entry":     reflect.TypeFor[conntrack.Entry](),
		"conntrack.Leg":       reflect.TypeFor[conntrack.Leg](),
		"conntrack.Stats":     reflect.TypeFor[conntrack.Stats](),
		"conntrack.Collected": reflect.TypeFor[conntrack.Collected](),
		"export.Stats":        reflect.TypeFor[export.Stats](),
	} {
		_, table, ok := strings.Cut(page, "<!-- fields: "+name+" -->\n")
		require.True(t, ok, name)
		table, _, _ = strings.Cut(table, "\n\n")
		var got []string
		for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|.*\\| (.*)\\|$").
			FindAllStringSubmatch(table, -1) {
			if strings.TrimSpace(row[2]) != "" {
				row[1] += ",omitempty"
			}
			got = append(got, row[1])
		}
		require.Equal(t, fields(kind), got, name)
	}
	for r := flow.EndIdle; r <= flow.EndResource; r++ {
		require.Contains(t, page, "| `"+r.String()+"` |")
	}
}

// TestDocsMetrics checks that every metric and every reason for a loss is documented, and that no page
// names a metric that there is not.
func TestDocsMetrics(t *testing.T) {
	pages := docs(t)
	page := pages["docs/operating.md"]
	known := map[string]bool{}
	for _, m := range monitor.Metrics() {
		known[m.Name] = true
		require.Contains(t, page, "\n| `"+m.Name+"` |")
	}
	for _, m := range meter.Metrics() {
		known[m.Name] = true
		require.Contains(t, pages["docs/chains.md"], "\n| `"+m.Name+"` |")
	}
	for _, name := range prometheus.Metrics() {
		known[name] = true
		require.Contains(t, pages["docs/formats.md"], "`"+name)
	}
	part := regexp.MustCompile(`_(bucket|sum|count)$`)
	for file, page := range pages {
		if strings.HasPrefix(file, "bpf/") {
			continue // names of C are like those of metrics
		}
		for _, name := range regexp.MustCompile(`\bweir_[a-z_]+`).FindAllString(page, -1) {
			require.True(t, known[name] || known[part.ReplaceAllString(name, "")], "%s: %s", file, name)
		}
	}
	for _, reason := range slices.Concat(bpf.Reasons(), export.Reasons()) {
		require.Contains(t, page, "| `"+reason+"` |")
	}
}

// fields gives the JSON tags of a struct.
func fields(kind reflect.Type) (tags []string) {
	for i := range kind.NumField() {
		tag := kind.Field(i).Tag.Get("json")
		tags = append(tags, strings.Replace(tag, "omitzero", "omitempty", 1)) // absent alike
	}
	return tags
}

// TestDocsTables checks that no kernel line, verdict, class or reason is left out.
func TestDocsTables(t *testing.T) {
	pages := docs(t)
	for _, line := range kernel.Matrix {
		require.Contains(t, pages["README.md"], "\n| `"+line+"` |")
	}
	verdicts := regexp.MustCompile(`"enum": \[([^\]]*"pass"[^\]]*)\]`).FindSubmatch(report.Schema())
	require.NotNil(t, verdicts)
	for _, v := range strings.Split(string(verdicts[1]), ",") {
		require.Contains(t, pages["docs/vm.md"], "\n| `"+strings.Trim(v, " \n\t\"")+"` |")
	}
	for _, c := range labeler.Classes() {
		require.Contains(t, pages["docs/labels.md"], "\n| `"+c.String()+"` |")
	}
	for _, r := range labeler.Reasons() {
		require.Contains(t, pages["docs/labels.md"], "\n| `"+r.String()+"` |")
	}
}
