package differ

import (
	"context"
	"fmt"
	"time"
)

// Fuzz says what to draw.
type Fuzz struct {
	Seed    uint64
	Packets int           // at least so many; 0: no bound
	For     time.Duration // at most so long; 0: no bound
	Corpus  [][]byte      // real frames to mutate, each with its Ethernet header
	// Progress is called now and then with the packets so far. It may be nil.
	Progress func(packets int)
}

// Finding is a case in which both sides differ.
type Finding struct {
	Seed, Number uint64 // of the case as it was drawn
	Case         *Case  // as it was shrunk
	Diff         []string
}

// Run draws cases and plays them until there is a difference, which is shrunk and returned, or
// enough was played. It returns how many packets that were.
func (f Fuzz) Run(ctx context.Context, d *Differ) (found *Finding, packets int, err error) {
	begin := time.Now()
	for n := uint64(0); ; n++ {
		if (f.Packets > 0 && packets >= f.Packets) || (f.For > 0 && time.Since(begin) > f.For) {
			return nil, packets, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, packets, err
		}
		c := Draw(f.Seed, n, f.Corpus)
		packets += c.packets()
		got, want, err := d.Play(c)
		if err != nil {
			return nil, packets, fmt.Errorf("case %d of seed %d: %w", n, f.Seed, err)
		}
		if !Same(want, got) {
			found, err := f.finding(d, c, n)
			return found, packets, err
		}
		if f.Progress != nil && n%64 == 0 {
			f.Progress(packets)
		}
	}
}

func (f Fuzz) finding(d *Differ, c *Case, n uint64) (*Finding, error) {
	small := d.Shrink(c)
	got, want, err := d.Play(small)
	if err != nil {
		return nil, err
	}
	found := &Finding{Seed: f.Seed, Number: n, Case: small, Diff: Diff(want, got)}
	if len(found.Diff) == 0 {
		return nil, fmt.Errorf("case %d of seed %d differs once, and not again", n, f.Seed)
	}
	return found, nil
}
