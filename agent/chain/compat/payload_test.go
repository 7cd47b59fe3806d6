package compat

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzProgram reads programs; what was read is the same when it is written and read again.
func FuzzProgram(f *testing.F) {
	f.Add(`{"name": "a", "seq_id": 1, "map_args": {"m": "1,2"}, "admin_status": "disabled", "cmd_start": ""}`)
	f.Add(`{"name": "a", "map_args": [{"name": "m", "args": [{"key": 1, "value": 2}]}], "monitor_maps": [{"name": "m", "key": 1, "aggregator": "avg"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var p, again Program
		if json.Unmarshal([]byte(text), &p) != nil {
			return
		}
		out, err := json.Marshal(p)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &again))
		p.raw, again.raw = nil, nil
		require.Equal(t, p, again)
	})
}
