package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Count is a number of packets and their bytes on the wire.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Add adds o to c.
func (c *Count) Add(o Count) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
}

// reasons are the names of enum lost in conn.h, in its order; README section 2 explains them.
// The last two leave packets out, the others lose them.
var reasons = [weirLostLOST_REASONS]string{
	"ethernet-header", "vlan-depth", "not-ip", "ipv4-header", "ipv4-length", "ipv6-header",
	"ipv6-length", "ipv6-extension", "fragment", "tcp-header", "udp-header", "sctp-header",
	"icmp-header", "icmp-cited", "mid-stream", "table-full", "ring-full", "no-hook",
	"filter", "sampling",
}

// Reasons lists the reasons for which packets are lost.
func Reasons() []string { return reasons[:weirLostLEFT_OUT_FILTER] }

// LeftOut lists the reasons for which packets are left out.
func LeftOut() []string { return reasons[weirLostLEFT_OUT_FILTER:] }

// ReasonNoHook is the reason for packets of hook 0: they came from a hook that is not configured.
const ReasonNoHook = "no-hook"

// ReasonTableFull is the reason for packets that would open a connection in a full table.
const ReasonTableFull = "table-full"

// Counters say what became of the packets at one hook.
type Counters struct {
	Seen      Count            `json:"seen"`
	Accounted Count            `json:"accounted"`
	Observed  Count            `json:"observed"`
	LeftOut   map[string]Count `json:"left_out,omitempty"` // by filter or sampling, those above zero
	Lost      map[string]Count `json:"lost,omitempty"`     // by reason, those above zero
}

func (c *Counters) add(s *weirHookStats) {
	c.Seen.Add(count(s.Seen))
	c.Accounted.Add(count(s.Accounted))
	c.Observed.Add(count(s.Observed))
	for i, l := range s.Lost {
		if l.Packets == 0 {
			continue
		}
		to := &c.Lost
		if i >= int(weirLostLEFT_OUT_FILTER) {
			to = &c.LeftOut
		}
		if *to == nil {
			*to = map[string]Count{}
		}
		sum := (*to)[reasons[i]]
		sum.Add(count(l))
		(*to)[reasons[i]] = sum
	}
}

func count(c weirCount) Count { return Count{Packets: c.Packets, Bytes: c.Bytes} }

// Counters reads the counters of a hook, summed over all CPUs. Hook 0 counts packets that came
// from a hook that is not configured.
func (d *Datapath) Counters(hook uint16) (Counters, error) {
	var perCPU []weirHookStats
	var c Counters
	if err := d.objs.Stats.Lookup(uint32(hook), &perCPU); err != nil {
		return c, fmt.Errorf("read the counters of hook %d: %w", hook, err)
	}
	for i := range perCPU {
		c.add(&perCPU[i])
	}
	var past weirHookStats
	if err := d.objs.Past.Lookup(uint32(hook), &past); err != nil {
		return c, fmt.Errorf("read the past counters of hook %d: %w", hook, err)
	}
	c.add(&past)
	return c, nil
}

// clearCounters sets the counters of a hook number to zero for its next owner.
func (d *Datapath) clearCounters(hook uint16) error {
	zero := make([]weirHookStats, ebpf.MustPossibleCPU())
	err := errors.Join(d.objs.Stats.Put(uint32(hook), zero), d.objs.Past.Put(uint32(hook), weirHookStats{}))
	if err != nil {
		return fmt.Errorf("clear the counters of hook %d: %w", hook, err)
	}
	return nil
}

// Reset empties the tables, the ring buffer and all counters, for a fresh start with a
// datapath that is already loaded. Nothing may be attached.
func (d *Datapath) Reset() error {
	if len(d.stubs) > 0 {
		return errors.New("reset the datapath: hooks are attached")
	}
	if err := errors.Join(d.Empty(), empty[weirFragmentKey](d.objs.Fragments)); err != nil {
		return err
	}
	if err := d.ClearSlots(); err != nil {
		return err
	}
	for hook := range d.hooks {
		if err := d.release(hook); err != nil {
			return err
		}
	}
	if err := d.clearCounters(0); err != nil {
		return err
	}
	if err := d.Events(func(*Event) error { return nil }); err != nil {
		return err
	}
	return d.ReleaseEvents()
}

// empty collects all keys first: deleting while walking restarts the walk at every step.
func empty[K any](m *ebpf.Map) error {
	var keys []K
	var k, v = *new(K), make([]byte, m.ValueSize())
	it := m.Iterate()
	for it.Next(&k, &v) {
		keys = append(keys, k)
	}
	if err := it.Err(); err != nil {
		return err
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
