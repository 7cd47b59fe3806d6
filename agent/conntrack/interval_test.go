package conntrack

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRatioPolicyExamples are the examples of the reference's documentation and tests.
func TestRatioPolicyExamples(t *testing.T) {
	for _, test := range []struct {
		last, actual time.Duration
		ratio        float64
		want         time.Duration
	}{
		{time.Minute, 0, 0, time.Minute},
		{time.Minute, 0, .10, time.Minute},
		{time.Minute, 0, .20, time.Minute},
		{time.Minute, 0, .25, time.Minute},
		{time.Minute, 0, .40, 36 * time.Second},
		{time.Minute, 0, .60, 24 * time.Second},
		{10 * time.Second, 0, .01, 15 * time.Second},
		{10 * time.Second, 0, .04, 15 * time.Second},
		{time.Second, 0, .9, 10 * time.Second},
		{24 * time.Hour, 0, .01, 12 * time.Hour},
		{10 * time.Minute, time.Minute, .03, 7 * time.Minute},
		{0, 0, .1, 5 * time.Minute},
	} {
		p := RatioPolicy{last: test.last}
		require.Equal(t, test.want, p.Next(test.actual, test.ratio), "%+v", test)
	}
	fixed := RatioPolicy{Fixed: 10 * time.Second}
	require.Equal(t, 10*time.Second, fixed.Next(0, .9))
	capped := RatioPolicy{last: time.Minute, Max: 20 * time.Second}
	require.Equal(t, 20*time.Second, capped.Next(0, .1))
	capped.Max = 0
	require.Equal(t, time.Minute, capped.Next(0, .1), "a cap is not remembered")
}

// TestRatioPolicyRatchet: it grows step by step to twelve hours where little is deleted of the table's room.
func TestRatioPolicyRatchet(t *testing.T) {
	p, steps := RatioPolicy{}, 0
	for ; p.Next(0, .04) < 12*time.Hour; steps++ {
		require.Less(t, steps, 20)
	}
	require.Equal(t, 10*time.Second, func() (d time.Duration) {
		for range 10 {
			d = p.Next(0, .9)
		}
		return d
	}())
}

// TestYieldPolicy: bounded both ways at any size, and never by what there is room for.
func TestYieldPolicy(t *testing.T) {
	p := YieldPolicy{Min: time.Second, Max: 30 * time.Second}
	require.Equal(t, 1500*time.Millisecond, p.Next(0, 0, 0), "nothing there")
	for range 20 {
		p.Next(1, 4<<20, 0)
	}
	require.Equal(t, 30*time.Second, p.Next(0, 4<<20, 0), "the longest that something expired may stay")
	require.Equal(t, 30*time.Second, p.Next(5, 100, .5), "worth it")
	require.Equal(t, 15*time.Second, p.Next(25, 100, .5), "at most halved")
	require.Equal(t, 12*time.Second, p.Next(625, 10000, 0), "in proportion")
	require.Equal(t, time.Second, p.Next(0, 100, .51), "more than half full")
	require.Equal(t, 1500*time.Millisecond, p.Next(0, 100, .5))
	for range 20 {
		p.Next(100, 100, 0)
	}
	require.Equal(t, time.Second, p.Next(100, 100, 0))
}
