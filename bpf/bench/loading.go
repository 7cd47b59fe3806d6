package bench

import (
	"errors"
	"time"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf"
)

// loads is how often loading is measured.
const loads = 5

// loading loads the datapath as the agent does by default. It returns what the verifier walked,
// and how long loading takes in ms, the median.
func loading() (programs map[string]int, ms float64, err error) {
	c := agent.DefaultConfig()
	opts, err := c.DatapathOptions()
	if err != nil {
		return nil, 0, err
	}
	var took []float64
	for range loads {
		start := time.Now()
		d, err := bpf.Load(opts)
		if err != nil {
			return nil, 0, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
		programs, err = d.VerifierEffort()
		if err := errors.Join(err, d.Close()); err != nil {
			return nil, 0, err
		}
	}
	return programs, median(took), nil
}
