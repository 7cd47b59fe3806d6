package bench

import (
	"errors"
	"fmt"
	"slices"
)

// In counted rounds so few packets come that most rounds see no interrupt; the shortest is one of them.
const (
	countedRounds = 15
	countedRepeat = 500
)

// counted is a program of ours, and packets that are sent through it.
type counted struct {
	load  func() (*subject, error)
	cases []packetCase
}

// countedCases are a packet of each kind in which the datapath goes another way, and the features that
// stand beside it. What hangs on tracepoints takes no test runs.
func countedCases() []counted {
	beside := map[string]packetCase{}
	for _, c := range besideCases() {
		beside[c.name] = c
	}
	return []counted{
		{func() (*subject, error) { return loadOurs(countedRepeat, nil) }, []packetCase{
			{name: "tcp4/hot", packet: tcp4(ack), flows: 1}, {name: "tcp6/hot", packet: tcp6(ack), flows: 1},
			{name: "udp4/hot", packet: udp4(), flows: 1},
			{name: "tcp4/new", packet: tcp4(syn), flows: countedRepeat, fresh: true},
			{name: "tcp6/new", packet: tcp6(syn), flows: countedRepeat, fresh: true},
		}},
		{loadDNS, []packetCase{beside["feature/dns"], beside["feature/dns-query"]}},
		{loadHandshake, []packetCase{beside["feature/handshake"], beside["feature/handshake-syn"]}},
	}
}

// Instructions counts how many instructions of the machine a packet costs, by kind of packet: those of the
// program and of what the kernel does for it, less those of an empty program in its place. It is for a
// machine of one CPU whose clock goes by instructions; each takes so many ns. The count is exact to 1/each.
func Instructions(each float64) (map[string]float64, error) {
	workers, err := newWorkers([]int{0})
	if err != nil {
		return nil, err
	}
	defer stop(workers)
	b := &bench{opts: Options{Rounds: countedRounds, Repeat: countedRepeat, Table: countedRepeat}, workers: workers}
	b.opts.fill()
	empty, err := loadEmpty()
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for _, c := range countedCases() {
		if err := b.count(all, &c, empty, each); err != nil {
			return nil, errors.Join(err, empty.close())
		}
	}
	return all, errors.Join(countHops(all, each), empty.close())
}

func (b *bench) count(all map[string]float64, c *counted, empty *subject, each float64) error {
	ours, err := c.load()
	if err != nil {
		return err
	}
	for i := range c.cases {
		var ns [2]float64
		for j, s := range []*subject{empty, ours} {
			if ns[j], err = b.shortest(&c.cases[i], s); err != nil {
				return errors.Join(fmt.Errorf("count instructions of %s: %w", c.cases[i].name, err), ours.close())
			}
		}
		all[c.cases[i].name] = (ns[1] - ns[0]) / each
	}
	return ours.close()
}

// shortest is what a packet takes in the shortest of all rounds, in ns.
func (b *bench) shortest(c *packetCase, s *subject) (ns float64, err error) {
	l := &lane{packetCase: c, subject: s}
	defer func() {
		if l.driver != nil {
			err = errors.Join(err, l.driver.close())
		}
	}()
	if err := b.prepare(l); err != nil {
		return 0, err
	}
	for range b.opts.Rounds {
		if err := b.round(l); err != nil {
			return 0, err
		}
	}
	return slices.Min(l.ns), nil
}
