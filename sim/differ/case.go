package differ

import (
	"cmp"
	"time"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

const (
	// Hooks is the number of hooks that are configured: 1 to Hooks. A packet at any other
	// number comes from no hook.
	Hooks = 5
	// defaultTable is the size of the connection tables unless a case says otherwise.
	defaultTable = 64
	// begin is the time at which a case begins, in ns; zero would read as "never".
	begin = int64(time.Second)
	// maxFrame is the size of the longest frame that all kernels take for a test run.
	maxFrame = 3000
	// minFrame is the size of the shortest: no kernel takes less than an Ethernet header.
	minFrame = 14
)

// Case is a configuration and what happens under it. The zero value of each setting is its
// default.
type Case struct {
	L3       bool // frames begin with the IP header, at all hooks
	Table    int  // entries for each family; 0 means 64
	Overflow bool // the policy for a full table
	RingFull bool // the ring buffer has no room for anything
	// NoMidStream switches off that connections are picked up in mid-stream.
	NoMidStream bool
	Tunnels     []string // kinds that are opened
	Sample      uint32   // 1 in so many connections is counted; 0 means all
	Filters     agent.Filters
	Takeover    time.Duration
	Lifetimes   map[conntrack.State]time.Duration
	Zones       [Hooks + 1]uint16 // by hook number
	Steps       []Step
}

// StepKind says what a step does.
type StepKind uint8

// The kinds of steps.
const (
	Packet StepKind = iota
	Sweep           // garbage collection
	Report          // all that was counted is reported to user space
)

// Step is one thing that happens.
type Step struct {
	Kind     StepKind
	Wait     time.Duration // time that passes before
	Hook     int           // where the packet is seen
	Frame    []byte
	Segments int  // 0; or for a packet carried as GSO how many it stands for, at least 2
	Tag      bool // a VLAN tag is carried beside the frame
}

// Hook names a hook by its number. Number 0 is that of packets from no hook.
func Hook(number int) flow.Hook {
	if number < 1 || number > Hooks {
		return flow.Hook{Interface: "none"}
	}
	return flow.Hook{Interface: "eth" + string(rune('0'+number)), Direction: flow.Ingress}
}

func (c *Case) table() int { return cmp.Or(c.Table, defaultTable) }

func (c *Case) takeover() time.Duration { return cmp.Or(c.Takeover, time.Second) }

// lifetimes are those of all states.
func (c *Case) lifetimes() map[conntrack.State]time.Duration {
	all := model.Lifetimes()
	for state, d := range c.Lifetimes {
		all[state] = d
	}
	return all
}

// states are those that a connection can have.
func states() []conntrack.State { return conntrack.States()[1:] }

// packets counts the steps that are packets.
func (c *Case) packets() int {
	n := 0
	for i := range c.Steps {
		if c.Steps[i].Kind == Packet {
			n++
		}
	}
	return n
}
