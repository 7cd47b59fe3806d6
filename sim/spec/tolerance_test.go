package spec

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBoundAllows(t *testing.T) {
	for _, c := range []struct {
		bound     Bound
		written   string
		want, got string
		good      bool
	}{
		{Bound{Count: 2}, "2", "10", "12", true},
		{Bound{Count: 2}, "2", "10", "8", true},
		{Bound{Count: 2}, "2", "10", "13", false},
		{Bound{Count: 2}, "2", "0", "2", true},
		{Bound{Count: 2}, "2", "10", "", false},
		{Bound{Count: 2}, "2", "*", "2", false},
		{Bound{Count: 2}, "2", "1s", "2s", false},
		{Bound{Percent: 2.5}, "2.5%", "1000", "975", true},
		{Bound{Percent: 2.5}, "2.5%", "1000", "974", false},
		{Bound{Percent: 100}, "100%", "0", "1", false},
		{Bound{Percent: 10}, "10%", "30s", "33s", true},
		{Bound{Duration: time.Second}, "1s", "30s", "29s", true},
		{Bound{Duration: time.Second}, "1s", "30s", "28.9s", false},
		{Bound{Duration: time.Second}, "1s", "30s", "", false},
		{Bound{Duration: time.Second}, "1s", "3", "4", false},
	} {
		require.Equal(t, c.written, c.bound.String())
		require.Equal(t, c.good, c.bound.Allows(c.want, c.got), "%s: %s, %s", c.written, c.want, c.got)
	}
}
