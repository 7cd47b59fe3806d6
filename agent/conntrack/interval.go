package conntrack

import "time"

// Bounds and steps of RatioPolicy: those of the reference (agent/REFERENCE.md).
const (
	ratioStart   = 5 * time.Minute
	ratioMin     = 10 * time.Second
	ratioMax     = 12 * time.Hour
	ratioHigh    = 0.25
	ratioLow     = 0.05
	ratioMost    = 0.9 // a higher ratio counts as this
	ratioStretch = 1.5
)

// RatioPolicy chooses the time between garbage collections by which part of the entries the last one has
// deleted. Its zero value begins with five minutes.
type RatioPolicy struct {
	Fixed time.Duration // above 0: always this
	Max   time.Duration // above 0: no longer than this
	last  time.Duration // before Max
}

// Next is the time until the next collection, when the last one came so long after the one before it and has
// deleted at most that part of the entries of a table, from 0 to 1. One that came early counts for more.
func (p *RatioPolicy) Next(actual time.Duration, ratio float64) time.Duration {
	if p.Fixed > 0 {
		return p.Fixed
	}
	if p.last == 0 {
		p.last = ratioStart
	}
	if actual > 0 && actual < p.last {
		ratio *= float64(p.last) / float64(actual)
	}
	switch {
	case ratio > ratioHigh:
		p.last = max(ratioMin, scaled(p.last, 1-min(ratio, ratioMost)))
	case ratio > 0 && ratio < ratioLow:
		p.last = min(ratioMax, scaled(p.last, ratioStretch))
	}
	if p.Max > 0 {
		return min(p.last, p.Max)
	}
	return p.last
}

func scaled(d time.Duration, by float64) time.Duration {
	return time.Duration(float64(d) * by).Round(time.Second)
}

// A sweep is worth its pass over the table when it finds so much of it expired; yields far from that change
// the interval step by step.
const (
	worthwhile   = 0.05
	yieldShrink  = 0.5
	yieldStretch = 1.5
	// From there on new connections could soon find no room.
	yieldFull = 0.5
)

// YieldPolicy chooses the time between sweeps by which part of what they look at has expired: often when
// much has, rarely when little has, within bounds, and always often while a table is more than half full. No
// expired entry stays for longer than Max and a sweep's time, whatever the tables' size: it goes by what was
// scanned, not by what there is room for.
type YieldPolicy struct {
	Min, Max time.Duration
	last     time.Duration
}

// Next is the time until the next sweep, when the last one has found so many of the entries expired. Full is how
// full the fuller table was, from 0 to 1.
func (p *YieldPolicy) Next(expired, scanned int, full float64) time.Duration {
	if p.last == 0 || full > yieldFull {
		p.last = p.Min
	}
	if full > yieldFull {
		return p.last
	}
	yield := 0.0
	if scanned > 0 {
		yield = float64(expired) / float64(scanned)
	}
	by := yieldStretch
	if yield > 0 {
		by = max(yieldShrink, min(worthwhile/yield, yieldStretch))
	}
	p.last = max(p.Min, min(time.Duration(float64(p.last)*by), p.Max))
	return p.last
}
