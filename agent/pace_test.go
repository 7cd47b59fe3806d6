package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPaceIsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"pace: {policy: slow}":              `pace.policy: "slow"; want yield, fixed or ratio`,
		"pace: {policy: yield, max: 1s}":    "pace.max: 1s; want interval (5s) to active (1m0s), or 0",
		"pace: {policy: ratio, max: 2m}":    "pace.max: 2m0s; want interval (5s) to active (1m0s), or 0",
		"pace: {policy: fixed, max: perch}": "max",
	} {
		_, err := ParseConfig("weir.yaml", []byte(smallest+text))
		require.ErrorContains(t, err, want)
	}
	c := DefaultConfig()
	require.Equal(t, paceYield, c.Pace.Policy)
	require.Equal(t, 25*time.Second, c.longest(), "what has expired is gone within 30 s")
	c.Active = 20 * time.Second
	require.Equal(t, 20*time.Second, c.longest())
	c.Pace.Max = 6 * time.Second
	require.Equal(t, 6*time.Second, c.longest())
	c.Pace.Policy = paceFixed
	require.Equal(t, 5*time.Second, c.longest())
}

// TestPaceFollowsSweeps: the more a sweep finds expired, the sooner the next one comes, by each policy.
func TestPaceFollowsSweeps(t *testing.T) {
	for policy, want := range map[string][3]time.Duration{
		paceFixed: {5 * time.Second, 5 * time.Second, 5 * time.Second},
		paceYield: {7500 * time.Millisecond, 11250 * time.Millisecond, 5625 * time.Millisecond},
		paceRatio: {5 * time.Minute, 5 * time.Minute, 30 * time.Second},
	} {
		t.Run(policy, func(t *testing.T) {
			s := newStage(t, func(c *Config) {
				c.Pace, c.Active, c.Table.Size = Pace{Policy: policy, Max: 10 * time.Minute}, 10*time.Minute, 8
			})
			s.send(t, s.tcp(t, 1, 80, "S", 1, 0), s.udp(t, 2, 53, 0), s.udp(t, 3, 53, 0))
			s.at(t, 10*time.Second)
			require.Equal(t, want[0], s.agent.every())
			s.at(t, 20*time.Second)
			require.Equal(t, want[1], s.agent.every())
			s.at(t, 31*time.Second) // two of three have expired
			require.Equal(t, want[2], s.agent.every())
			s.balanced(t)
		})
	}
}
