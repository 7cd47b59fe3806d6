package spec

import (
	"fmt"
	"strings"
)

// Impair is what becomes of the frames that go one way over a link, from this step on. Frames are
// numbered from 1 as they are sent, from this step on.
type Impair struct {
	From, To  Port
	Drop      []int
	Duplicate []int
	Corrupt   []int    // the last bit of these is flipped
	Swap      [][2]int // the first arrives behind the second
	Random    Chance
}

// Chance is what is drawn for every frame, in percent.
type Chance struct {
	Seed                              uint64
	Drop, Duplicate, Reorder, Corrupt int
}

// direction is one way over a link.
type direction struct{ from, to Port }

var directionValue = match("one way over a link", "client/eth0 > server/eth0",
	`^`+portName+` +> +`+portName+`$`, func(s string) (direction, error) {
		a, b, _ := strings.Cut(s, " > ")
		from, _ := parsePort(strings.TrimSpace(a))
		to, err := parsePort(strings.TrimSpace(b))
		return direction{from, to}, err
	})

var frameNumbers = listOf("frames", number[int](1, MaxPackets), 1, maxScriptLines)

var swapValue = value[[2]int]{
	schema: schema{"type": "array", "items": schema{"type": "integer", "minimum": 1, "maximum": MaxPackets},
		"minItems": 2, "maxItems": 2},
	read: func(l *list, n *node) (pair [2]int, ok bool) {
		v, ok := listOf("frames", number[int](1, MaxPackets), 2, 2).read(l, n)
		if !ok {
			return pair, false
		}
		if v[0] >= v[1] {
			l.add(n, fmt.Sprintf("%d is not sent before %d", v[0], v[1]), "the first one arrives behind the second")
			return pair, false
		}
		return [2]int(v), true
	}}

var percent = number[int](0, 100)

var chanceObject = object[Chance]{
	what: "the chances",
	fields: []field[Chance]{
		put("seed", "What they are drawn from.", number[uint64](0, 1<<53),
			func(c *Chance, v uint64) { c.Seed = v }).must(),
		put("drop", "Percent of the frames that do not arrive.", percent,
			func(c *Chance, v int) { c.Drop = v }),
		put("duplicate", "Percent that arrive twice.", percent,
			func(c *Chance, v int) { c.Duplicate = v }),
		put("reorder", "Percent that arrive behind the next one.", percent,
			func(c *Chance, v int) { c.Reorder = v }),
		put("corrupt", "Percent of which one bit is flipped.", percent,
			func(c *Chance, v int) { c.Corrupt = v }),
	},
}

var impairObject = object[rawStep]{
	what: "an impair step", doc: "What becomes of the frames that go one way over a link, from now on.",
	fields: []field[rawStep]{
		put("impair", `The way: "client/eth0 > server/eth0". Without another key all is well again.`,
			keepPlace(directionValue), func(s *rawStep, v placed[direction]) {
				s.at = v.at
				s.step.Impair.From, s.step.Impair.To = v.v.from, v.v.to
			}).must(),
		put("drop", "Frames that do not arrive, by number from 1.", frameNumbers,
			func(s *rawStep, v []int) { s.step.Impair.Drop = v }),
		put("duplicate", "Frames that arrive twice.", frameNumbers,
			func(s *rawStep, v []int) { s.step.Impair.Duplicate = v }),
		put("corrupt", "Frames whose last bit is flipped.", frameNumbers,
			func(s *rawStep, v []int) { s.step.Impair.Corrupt = v }),
		put("swap", "Pairs of frames: the first arrives behind the second.",
			listOf("pairs", swapValue, 1, maxScriptLines),
			func(s *rawStep, v [][2]int) { s.step.Impair.Swap = v }),
		put("random", "Chances for every frame, the same for the same seed.", chanceObject.value(),
			func(s *rawStep, v Chance) { s.step.Impair.Random = v }),
	},
}

// impairStep finds the link, which will go through the runner.
func (r *resolver) impairStep(raw *rawStep) {
	p := raw.step.Impair
	t := &r.scenario.Topology
	for i := range t.Links {
		l := &t.Links[i]
		if l.A == p.From && l.B == p.To || l.B == p.From && l.A == p.To {
			if r.isNetkit(l.A) || r.isNetkit(l.B) {
				r.add(raw.at, "a netkit pair cannot be impaired", "name another link on the way")
			}
			l.Wire = true
			return
		}
	}
	if r.port(placed[Port]{p.From, raw.at}) && r.port(placed[Port]{p.To, raw.at}) {
		r.add(raw.at, fmt.Sprintf("no link joins %s and %s", p.From, p.To), "name the two ends of one link")
	}
}

func (r *resolver) isNetkit(p Port) bool {
	return r.scenario.Topology.Host(p.Host).Interface(p.Interface).Kind == Netkit
}
