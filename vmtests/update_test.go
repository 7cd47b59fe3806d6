package vmtests

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func TestAgreed(t *testing.T) {
	wants := func(golden string) *result.Scenario {
		return &result.Scenario{Verdict: result.Fail, Golden: golden}
	}
	skip := &result.Scenario{Verdict: result.Skip}
	cases := map[string]struct {
		all  []*result.Scenario
		text string
	}{
		"nothing ran":         {nil, ""},
		"only skipped":        {[]*result.Scenario{skip}, ""},
		"one kernel":          {[]*result.Scenario{wants("a")}, "a"},
		"two, and one skips":  {[]*result.Scenario{wants("a"), skip, wants("a")}, "a"},
		"two that differ":     {[]*result.Scenario{wants("a"), wants("b")}, ""},
		"one is broken":       {[]*result.Scenario{wants("a"), wants("")}, ""},
		"one passes as it is": {[]*result.Scenario{wants("a"), {Verdict: result.Pass}}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text, ok := agreed(c.all)
			require.Equal(t, c.text, text)
			require.Equal(t, c.text != "", ok)
		})
	}
}
