package api

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzOrder reads requests; one that is fine can be checked, and is the same when it is written and
// read again.
func FuzzOrder(f *testing.F) {
	f.Add(`{"chains": [{"interface": "eth0", "hook": "xdp", "members": [{"name": "m", "object": "/m.o",
		"priority": 5, "proceed_on": ["pass"], "constants": {"a": -1}}]}], "prune": true}`)
	f.Add(`{"chains": [{"namespace": "a", "interface": "b", "hook": "tc-ingress", "place": {"at": "head"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var o Order
		if Read(httptest.NewRecorder(), httptest.NewRequest("POST", Path+"/plan", strings.NewReader(text)), &o) != nil {
			return
		}
		_ = o.Check()
		require.Len(t, o.keys(), len(o.Chains))
	})
}
