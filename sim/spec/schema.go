package spec

import (
	_ "embed" // for the published schema
	"encoding/json"
	"fmt"
)

//go:embed scenario.schema.json
var published []byte

// Schema returns the JSON Schema (draft 2020-12) of scenario files, for editors. What the
// parser checks beyond it needs the whole file: names, addresses, routes, scripts.
func Schema() []byte { return append([]byte(nil), published...) }

// generateSchema makes the schema from the tables that the parser reads by. The file is checked
// in so that editors find it; a test keeps it up to date.
func generateSchema() ([]byte, error) {
	s := scenarioObject.schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "https://github.com/weirnet/weir/sim/spec/scenario.schema.json"
	s["title"] = "weir scenario"
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode schema: %w", err)
	}
	return append(out, '\n'), nil
}
