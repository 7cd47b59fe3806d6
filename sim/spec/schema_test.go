package spec

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// TestSchemaIsUpToDate compares the published schema with the parser's tables.
func TestSchemaIsUpToDate(t *testing.T) {
	got, err := generateSchema()
	require.NoError(t, err)
	golden(t, "scenario.schema.json", got)
	if !*update {
		require.Equal(t, string(got), string(Schema()))
	}
}

var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(published))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("scenario.schema.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("scenario.schema.json")
})

// validate returns what the schema has against a file that is YAML.
func validate(t testing.TB, data []byte) error {
	t.Helper()
	s, err := compiled()
	require.NoError(t, err)
	root, err := parseYAML("x.yaml", data)
	require.NoError(t, err)
	return s.Validate(instance(root))
}

// instance is a node as the values of JSON.
func instance(n *node) any {
	switch n.kind {
	case nullKind:
		return nil
	case mapKind:
		out := map[string]any{}
		for _, p := range n.pairs {
			out[p.key.text] = instance(p.value)
		}
		return out
	case listKind:
		out := []any{}
		for _, item := range n.items {
			out = append(out, instance(item))
		}
		return out
	}
	switch v, whole := wholeNumber(n); {
	case !n.typed:
		return n.text
	case whole:
		return v
	case n.text == "true" || n.text == "false":
		return n.text == "true"
	}
	f, _ := strconv.ParseFloat(n.text, 64)
	return f
}

func TestSchemaTakesValidFiles(t *testing.T) {
	ours, all := files(t, "testdata/valid/*.yaml"), files(t, "../../scenarios/*/*.yaml")
	for _, file := range append(ours, all...) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if _, err := Parse(file, data); err != nil && strings.HasPrefix(file, "../..") {
			continue // someone else's to mend; sim lint tells
		}
		require.NoError(t, validate(t, data), file)
	}
}

// TestSchemaRefusesInvalidFiles checks that an editor sees the mistakes that can be seen without
// looking names up. The others are listed: those that only the parser finds.
func TestSchemaRefusesInvalidFiles(t *testing.T) {
	for _, file := range files(t, "testdata/invalid/*.yaml") {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if _, err := parseYAML(file, data); err != nil {
			continue
		}
		beyond := strings.HasPrefix(string(data), "# beyond the schema")
		require.Equal(t, beyond, validate(t, data) == nil, filepath.Base(file))
	}
}

// TestSchemaDescribes checks that every property of the schema has a description for editors.
func TestSchemaDescribes(t *testing.T) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		m, _ := v.(map[string]any)
		for name, child := range m {
			if list, ok := child.([]any); ok {
				for i, item := range list {
					walk(path+"/"+name+"/"+strconv.Itoa(i), item)
				}
			}
			walk(path+"/"+name, child)
			if !strings.HasSuffix(path, "/properties") || strings.HasSuffix(path, "/properties/properties") {
				continue
			}
			described := child.(map[string]any)["description"] != nil
			words := strings.Contains(path, "lifetimes") || strings.Contains(path, "counters") ||
				strings.HasSuffix(path, "/layers/items/oneOf/1/properties")
			require.True(t, described || words, "%s/%s has no description", path, name)
		}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(published))
	require.NoError(t, err)
	walk("", doc)
}
