package matrix

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func TestDemand(t *testing.T) {
	skip := func(missing ...string) result.Scenario {
		return result.Scenario{Verdict: result.Skip, Reason: "this kernel has no such thing", Missing: missing}
	}
	for name, c := range map[string]struct {
		s       result.Scenario
		version string
		want    result.Verdict
	}{
		"too old":            {skip("netkit"), "6.1.0-56-cloud-amd64", result.Skip},
		"new enough":         {skip("netkit"), "6.12.117+deb13-cloud-amd64", result.Fail},
		"one of two":         {skip("netkit", "vlan"), "5.10.0-46-cloud-amd64", result.Fail},
		"for another reason": {skip(), "7.3-cloud-amd64", result.Skip},
		"not skipped":        {result.Scenario{Verdict: result.Pass, Missing: []string{"vlan"}}, "7.3", result.Pass},
	} {
		demand(&c.s, c.version)
		require.Equal(t, c.want, c.s.Verdict, name)
	}
	s := skip("netkit", "vlan")
	demand(&s, "5.10.0")
	require.Equal(t, "this kernel has no such thing, but 5.10.0 should have vlan", s.Reason)
}
