package qemu

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMeasureTSC(t *testing.T) {
	a, b := MeasureTSC(), MeasureTSC()
	if runtime.GOARCH != "amd64" {
		require.Zero(t, a)
		return
	}
	require.Greater(t, a, 100_000)
	require.Less(t, math.Abs(float64(a-b))/float64(a), 1e-3, "%d and %d kHz", a, b)
}
