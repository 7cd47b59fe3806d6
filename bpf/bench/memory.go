package bench

import "errors"

// memoryCase fills the table.
func (b *bench) memoryCase() packetCase {
	return packetCase{name: "memory/conn4", packet: tcp4(ack), flows: b.opts.Table,
		what: "kernel memory of a full table, its buckets included, per IPv4 connection"}
}

// memory measures the kernel memory per flow, as the kernel itself accounts it (memlock in a map's
// fdinfo).
func (b *bench) memory() ([]Figure, error) {
	c := b.memoryCase()
	f := Figure{Name: c.name, What: c.what, Unit: PerFlow}
	var err error
	f.Ours, err = b.perFlow(&c, func() (*subject, error) { return loadOurs(b.opts.Table, nil) })
	if err != nil {
		return nil, err
	}
	if b.opts.Peer != nil {
		f.Peer, err = b.perFlow(&c, func() (*subject, error) { return loadPeer(b.opts.Peer, b.opts.Table) })
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
