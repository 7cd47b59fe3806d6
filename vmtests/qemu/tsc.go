package qemu

import (
	"math"
	"time"
)

// MeasureTSC gives the rate of the host's time stamp counter in kHz, to a few parts in 10^5, and
// zero where there is none. It takes 50 ms.
//
// A guest that finds out by itself compares the counter with a timer. When the host takes the CPU
// away meanwhile the result is wrong, by a factor, and the guest's clock with it.
func MeasureTSC() int {
	t0, c0 := bestReading()
	<-time.After(50 * time.Millisecond)
	t1, c1 := bestReading()
	return int(math.Round(float64(c1-c0) / float64(t1.Sub(t0)) * 1e6))
}

// bestReading reads clock and counter at the same moment: of many tries the one in which least
// time passed between the readings.
func bestReading() (at time.Time, counter uint64) {
	least := uint64(math.MaxUint64)
	for range 100 {
		before := readTSC()
		now := time.Now()
		after := readTSC()
		if after-before < least {
			least, at, counter = after-before, now, before+(after-before)/2
		}
	}
	return at, counter
}
