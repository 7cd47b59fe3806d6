package capture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
)

// parse reads "a>1 b<2": frame 1 leaves the port a, frame 2 arrives at b. Ports are letters; the
// links of the tests are a-b, c-d, e-f, and a letter's host is its own.
func parse(lists ...string) (out [][]event) {
	for _, l := range lists {
		var events []event
		for _, w := range strings.Fields(l) {
			events = append(events, event{port: spec.Port{Host: w[:1], Interface: "eth0"},
				egress: w[1] == '>', frame: []byte(w[2:])})
		}
		out = append(out, events)
	}
	return out
}

func format(events []event) string {
	var words []string
	for _, e := range events {
		sign := map[bool]string{true: ">", false: "<"}[e.egress]
		words = append(words, e.port.Host+sign+string(e.frame))
	}
	return strings.Join(words, " ")
}

func links(pairs ...string) order {
	var t spec.Topology
	for _, p := range pairs {
		t.Links = append(t.Links, spec.Link{A: spec.Port{Host: p[:1], Interface: "eth0"},
			B: spec.Port{Host: p[1:], Interface: "eth0"}})
	}
	return orderOf(&t)
}

// Two interfaces that stand on one of a third host: what they send goes out there, or to the other.
func TestMergeUpon(t *testing.T) {
	on := spec.Port{Host: "n", Interface: "eth0"}
	host := func(name string) spec.Host {
		return spec.Host{Name: name, Interfaces: []spec.Interface{{Name: "eth0", On: on}}}
	}
	o := orderOf(&spec.Topology{Hosts: []spec.Host{host("a"), host("b")}})
	for lists, want := range map[string]string{
		"n>1 n<2|a>1 a<2|": "a>1 n>1 n<2 a<2",
		"|b<1 b>2|a>1 a<2": "a>1 b<1 b>2 a<2",
		"n>1|a>2|b>1":      "a>2 b>1 n>1",
	} {
		got, err := merge(parse(strings.Split(lists, "|")...), o)
		require.NoError(t, err)
		require.Equal(t, want, format(got))
	}
}

func TestMerge(t *testing.T) {
	cases := map[string]struct {
		lists []string
		want  string
		err   error
	}{
		"one namespace keeps its order": {[]string{"b<2 a<1 a>1"}, "b<2 a<1 a>1", nil},
		"a frame travels before the next": {[]string{"a>1 a>2", "b<1 c>1 b<2 c>2", "d<1 d<2"},
			"a>1 b<1 c>1 d<1 a>2 b<2 c>2 d<2", nil},
		"question and answer": {[]string{"a>q a<r a>q", "b<q b>r b<q"},
			"a>q b<q b>r a<r a>q b<q", nil},
		"listed receiver first":   {[]string{"b<1", "a>1"}, "a>1 b<1", nil},
		"lost on the link":        {[]string{"a>1 a>2 a>3", "b<1 b<3"}, "a>1 b<1 a>2 a>3 b<3", nil},
		"sent before we listened": {[]string{"a>2", "b<1 b<2"}, "a>2 b<1 b<2", nil},
		"equal frames": {[]string{"a>1 a>1 a>1", "b<1 b<1 b<1"},
			"a>1 b<1 a>1 b<1 a>1 b<1", nil},
		"contradiction": {[]string{"a<2 a>1", "b<1 b>2"}, "", errOrder},
		"nothing":       {[]string{"", ""}, "", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := merge(parse(c.lists...), links("ab", "cd", "ef"))
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.want, format(got))
		})
	}
}

// TestMergeOfAnyTrace draws traces of a chain of hosts, some frames lost, cuts them up by host
// and requires that the merged order keeps every host's own and every link's.
func TestMergeOfAnyTrace(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		lists := drawTrace(r, 4, 60)
		var chain spec.Topology
		peers := map[spec.Port]spec.Port{}
		for h := range 3 {
			a, b := drawn(h, h+1, true, nil).port, drawn(h+1, h, true, nil).port
			peers[a], peers[b] = b, a
			chain.Links = append(chain.Links, spec.Link{A: a, B: b})
		}
		got, err := merge(lists, orderOf(&chain))
		require.NoError(t, err)
		byHost := make([][]event, len(lists))
		sent := map[string]int{} // by port and frame: departures less arrivals
		for _, e := range got {
			h := e.port.Host[0] - 'a'
			byHost[h] = append(byHost[h], e)
			if e.egress {
				sent[e.port.String()+string(e.frame)]++
				continue
			}
			key := peers[e.port].String() + string(e.frame)
			sent[key]--
			require.GreaterOrEqual(t, sent[key], 0, "seed %d: arrived before it left", seed)
		}
		for i := range lists {
			require.Equal(t, format(lists[i]), format(byHost[i]))
		}
	}
}

// drawTrace sends frames one after the other from random hosts to a neighbour.
func drawTrace(r *rand.Rand, hosts, frames int) [][]event {
	lists := make([][]event, hosts)
	pending := make([][]event, hosts) // arrivals that are not seen yet
	for n := range frames {
		from := r.IntN(hosts)
		to := from + 1
		if to == hosts || from > 0 && r.IntN(2) == 0 {
			to = from - 1
		}
		frame := []byte(fmt.Sprint(n % 7))
		lists[from] = append(lists[from], drawn(from, to, true, frame))
		if r.IntN(5) > 0 {
			pending[to] = append(pending[to], drawn(to, from, false, frame))
		}
		for h := range pending {
			if len(pending[h]) > 0 && r.IntN(2) == 0 {
				lists[h], pending[h] = append(lists[h], pending[h][0]), pending[h][1:]
			}
		}
	}
	for h := range pending {
		lists[h] = append(lists[h], pending[h]...)
	}
	return lists
}

func drawn(host, toward int, egress bool, frame []byte) event {
	name := func(h int) string { return string(rune('a' + h)) }
	port := spec.Port{Host: name(host), Interface: name(toward)}
	return event{port: port, egress: egress, frame: frame}
}

func TestTotals(t *testing.T) {
	in := flow.Hook{Namespace: "a", Interface: "eth0", Direction: flow.Ingress}
	out := in
	out.Direction = flow.Egress
	got := Totals([]Packet{{in, make([]byte, 60)}, {out, make([]byte, 14)}, {in, make([]byte, 100)}})
	require.Equal(t, map[flow.Hook]Total{in: {2, 160}, out: {1, 14}}, got)
}
