package meter

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
)

// feed gives a series one value after the other, each step later than the one before.
func feed(step time.Duration, values ...uint64) *series {
	s := &series{}
	at := time.Unix(0, 0)
	for _, v := range values {
		s.add(at, v, nil)
		at = at.Add(step)
	}
	return s
}

func TestSeries(t *testing.T) {
	long := make([]uint64, Window+5)
	long[4], long[5] = 1000, 20 // 1000 is outside the window, and so is what it was reset from
	for name, c := range map[string]struct {
		series  *series
		as      string
		want    float64
		missing bool
	}{
		"nothing yet":           {feed(1), "", 0, true},
		"value":                 {feed(1, 7, 9), "", 9, false},
		"value by name":         {feed(1, 7, 9), chain.AsValue, 9, false},
		"average":               {feed(1, 1, 2, 6), chain.AsAverage, 3, false},
		"average of a window":   {feed(1, long...), chain.AsAverage, 1, false},
		"rate of one sample":    {feed(time.Second, 9), chain.AsMaxRate, 0, true},
		"highest rate":          {feed(time.Second, 100, 103, 110, 111), chain.AsMaxRate, 7, false},
		"rate per second":       {feed(2*time.Second, 100, 110), chain.AsMaxRate, 5, false},
		"rate across a reset":   {feed(time.Second, 100, 4), chain.AsMaxRate, 4, false},
		"rate of a large value": {feed(time.Second, 1<<63, 1<<63+4096), chain.AsMaxRate, 4096, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := c.series.value(c.as)
			require.Equal(t, !c.missing, ok)
			require.InDelta(t, c.want, got, 1e-9)
		})
	}
	failed := feed(1, 5)
	failed.add(time.Unix(9, 0), 0, errors.New("no map"))
	require.Error(t, failed.err)
	require.Len(t, failed.samples, 1)
}
