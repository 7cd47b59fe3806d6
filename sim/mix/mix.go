// Package mix draws random traffic: conversations of several protocols between several hosts, cut into
// pieces that are shuffled into one another. What it draws is text in the scenario language, plain steps
// that a person could have written, so that everything that knows steps knows mixes.
package mix

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Kinds are the kinds of conversations that can be drawn, in the order in which they are.
var Kinds = []string{"tcp", "udp", "ping", "dns", "sctp", "fragments", "errors"}

// draws has a function for each of Kinds.
var draws = map[string]func(*drawer, *conversation){
	"tcp": (*drawer).tcp, "udp": (*drawer).udp, "ping": (*drawer).ping, "dns": (*drawer).dns,
	"sctp": (*drawer).sctp, "fragments": (*drawer).fragments, "errors": (*drawer).errors,
}

// Options say what to draw. The same options give the same steps, on every machine.
type Options struct {
	// Pairs are who can talk to whom; at least one.
	Pairs []Pair
	// Flows is the number of conversations, by kind.
	Flows map[string]int
	// Seed is what everything is drawn from.
	Seed uint64
	// MTU is the least on any way, in bytes. No packet is longer.
	MTU int
}

// Pair is a client and a server. Families are those that both have, "ipv4" and "ipv6"; at least one.
type Pair struct {
	Client, Server string
	Families       []string
}

// Draw draws steps, each an item of a YAML list. Those of one conversation are in its order, and
// conversations are shuffled. No two conversations of a kind have the same ports.
func Draw(o Options) []string {
	d := &drawer{Options: o, rand: rand.New(rand.NewPCG(o.Seed, 0)), used: map[int]bool{}}
	var all []*conversation
	left := 0
	for _, kind := range Kinds {
		for range o.Flows[kind] {
			c := d.conversation()
			draws[kind](d, c)
			all, left = append(all, c), left+len(c.steps)
		}
	}
	steps := make([]string, 0, left)
	for ; left > 0; left-- {
		n := d.rand.IntN(left)
		for _, c := range all {
			if n < len(c.steps) {
				steps, c.steps = append(steps, c.steps[0]), c.steps[1:]
				break
			}
			n -= len(c.steps)
		}
	}
	return steps
}

// drawer draws one mix.
type drawer struct {
	Options
	rand *rand.Rand
	used map[int]bool // ports of clients
	id   int          // of what has a number instead of ports
}

// conversation is what two hosts have with each other, in steps.
type conversation struct {
	Pair
	port   int    // the client's
	family string // "" where there is but one
	steps  []string
}

func (d *drawer) conversation() *conversation {
	c := &conversation{Pair: d.Pairs[d.rand.IntN(len(d.Pairs))]}
	if len(c.Families) > 1 {
		c.family = c.Families[d.rand.IntN(len(c.Families))]
	}
	for c.port == 0 || d.used[c.port] {
		c.port = 1024 + d.rand.IntN(1<<16-1024)
	}
	d.used[c.port] = true
	d.id++
	return c
}

// one draws one of several values.
func one[V any](d *drawer, of ...V) V { return of[d.rand.IntN(len(of))] }

// chance is true n times in ten.
func (d *drawer) chance(n int) bool { return d.rand.IntN(10) < n }

// size draws the bytes of a payload: nothing, a little, a full packet.
func (d *drawer) size() int { return min(one(d, 0, 1, 12, 64, 120, 512, 800, 1200, 1400), d.MTU-100) }

// step adds a step: its key with two endpoints, and the other lines of it.
func (c *conversation) step(key, from, to string, lines ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, "- %s: %s > %s\n", key, from, to)
	if c.family != "" {
		fmt.Fprintf(&b, "  family: %s\n", c.family)
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	c.steps = append(c.steps, b.String())
}

// script adds a step that is a piece of a scripted conversation.
func (c *conversation) script(key string, port int, lines ...string) {
	c.step(key, c.from(), c.to(port), "script: |\n    "+strings.Join(lines, "\n    "))
}

func (c *conversation) from() string       { return fmt.Sprintf("%s:%d", c.Client, c.port) }
func (c *conversation) to(port int) string { return fmt.Sprintf("%s:%d", c.Server, port) }

// packets adds a step of one packet, from the client or back.
func (c *conversation) packet(back bool, port int, layers string, more ...string) {
	from, to := c.from(), c.to(port)
	if back {
		from, to = to, from
	}
	c.step("packet", from, to, append([]string{"layers: [" + layers + "]"}, more...)...)
}
