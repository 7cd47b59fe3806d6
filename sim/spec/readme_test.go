package spec

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// frame is a scenario around an example of the reference. The parts are replaced by name.
var frame = map[string]string{
	"topology": `client: {eth0: [10.0.0.1/24, fd00:0:0:1::1/64]}
router:
  forward: true
  eth0: [10.0.0.254/24, fd00:0:0:1::fe/64]
  eth1: [10.0.1.254/24, fd00:0:0:2::fe/64]
server: {eth0: [10.0.1.2/24, fd00:0:0:2::2/64]}
links: [client/eth0 - router/eth0, router/eth1 - server/eth0]`,
	"agent":    "on: [server/eth0]",
	"traffic":  "- advance: 1s",
	"expect":   "free: [packets]",
	"requires": "features: [veth]",
	"matrix":   "family: [ipv4]",
}

// wrap makes a whole scenario of an example for one of its parts. An agent that is another program
// wants packets; an example of a topology has other hosts.
func wrap(part, example string) string {
	frame := maps.Clone(frame)
	if part == "agent" {
		frame["traffic"] = "- ping: client > server"
	}
	var b strings.Builder
	b.WriteString("summary: an example\n")
	for _, name := range []string{"requires", "matrix", "topology", "agent", "cluster", "traffic", "expect"} {
		text := frame[name]
		if name == part {
			text = example
		}
		if text == "" {
			continue
		}
		b.WriteString(name + ":\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n")
	}
	return b.String()
}

// TestReference parses every example of the reference.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	fenced := regexp.MustCompile("(?ms)^```yaml ?(\\w*)\n(.*?)^```")
	blocks := fenced.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(blocks), 10)
	for _, b := range blocks {
		example := b[2]
		if b[1] != "" {
			example = wrap(b[1], b[2])
		}
		_, err := Parse("README.yaml", []byte(example))
		require.NoError(t, err, example)
		require.NoError(t, validate(t, []byte(example)), example)
	}
}

// TestReferenceIsComplete checks that the reference speaks of every key.
func TestReferenceIsComplete(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	keys := append(scenarioObject.names(), topologyObject.names()...)
	keys = append(append(keys, hostObject.names()...), interfaceObject.names()...)
	keys = append(append(keys, clusterObject.names()...), clusterNode.names()...)
	keys = append(append(keys, clusterPod.names()...), clusterService.names()...)
	keys = append(append(keys, rangeObject.names()...), providedObject.names()...)
	keys = append(keys, agentObject.names()...)
	keys = append(append(keys, expectObject.names()...), requiresObject.names()...)
	keys = append(append(keys, axes...), lifetimeNames...)
	for _, k := range append(keys, freeFields...) {
		require.Contains(t, string(text), "`"+k+"`")
	}
	for _, v := range variants {
		for _, f := range v.object.fields {
			require.Regexp(t, regexp.MustCompile(`\b`+f.name+`: `), string(text))
		}
	}
}

// TestReferenceLayers keeps the reference's table of layers up to date.
func TestReferenceLayers(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var table strings.Builder
	table.WriteString("| layer | fields |\n|---|---|\n")
	for _, kind := range layerNames() {
		var fields []string
		for _, f := range layerKinds[kind] {
			fields = append(fields, "`"+f.name+"`")
		}
		fmt.Fprintf(&table, "| `%s` | %s |\n", kind, strings.Join(fields, " "))
	}
	between := regexp.MustCompile(`(?s)(<!-- layers: .*? -->\n).*?(<!-- end of layers -->)`)
	got := between.ReplaceAllString(string(text), "${1}"+table.String()+"${2}")
	golden(t, "README.md", []byte(got))
}
