package export

import (
	"math/rand/v2"
	"time"
)

// Retry is how long to wait between attempts to send: Min after the first one that fails, twice as
// long after each further one, up to Max. The times are spread, so that agents which have lost the
// same receiver do not come back at once.
type Retry struct {
	Min, Max time.Duration
}

// after is the time to wait after so many attempts in a row have failed: between half and all of
// what Retry says.
func (r Retry) after(failed int) time.Duration {
	d := r.Min
	for ; failed > 1 && d < r.Max; failed-- {
		d *= 2
	}
	d = min(d, r.Max)
	return d/2 + rand.N(d/2+1)
}
