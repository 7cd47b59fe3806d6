package bench

import (
	"errors"
	"fmt"
	"slices"
)

// memoryCase fills the largest table there is a figure of.
func (b *bench) memoryCase() packetCase {
	flows := slices.Max(b.opts.Sweep)
	return packetCase{name: "memory/conn4", packet: tcp4(ack), flows: flows,
		what: fmt.Sprintf("kernel memory of a table full of %d IPv4 connections, its buckets included, per connection", flows)}
}

// memory measures the kernel memory per flow, as the kernel itself accounts it (memlock in a map's
// fdinfo).
func (b *bench) memory() ([]Figure, error) {
	c := b.memoryCase()
	f := Figure{Name: c.name, What: c.what, Unit: PerFlow}
	var err error
	f.Ours, err = b.perFlow(&c, func() (*subject, error) { return loadOurs(c.flows, nil) })
	if err != nil {
		return nil, err
	}
	if b.opts.Peer != nil {
		f.Peer, err = b.perFlow(&c, func() (*subject, error) { return loadPeer(b.opts.Peer, c.flows) })
	}
	return []Figure{f.compare()}, err
}

func (b *bench) perFlow(c *packetCase, load func() (*subject, error)) (v *Value, err error) {
	s, err := load()
	if err != nil {
		return nil, err
	}
	l := &lane{packetCase: c, subject: s}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := b.prepare(l); err != nil {
		return nil, err
	}
	bytes, entries, err := s.memory()
	if err != nil || entries == 0 {
		return nil, err // a program that keeps no flows has nothing to tell
	}
	per := float64(bytes) / float64(entries)
	return &Value{Median: per, Best: per, Held: entries}, nil
}
