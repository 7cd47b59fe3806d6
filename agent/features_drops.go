package agent

import (
	"fmt"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf/trace"
)

// drops writes drop records. They are kept until the sink has them safe, so that one that fails
// for a while costs nothing but repeats.
type drops struct {
	signature
	trace *trace.Trace
	sink  DropSink
	room  int // records that are kept

	next   uint64 // sequence
	read   []trace.Drop
	kept   []flow.Drop
	lost   uint64 // packets without a record, since the agent started
	told   uint64 // of those, in records
	missed uint64 // of those, by this side
}

func (d *drops) drain() error {
	all, err := d.trace.Drops(d.read[:0])
	d.read = all
	for i := range all {
		if len(d.kept) >= d.room {
			d.missed += all[i].Packets
			continue
		}
		d.keep(dropRecord(&all[i]))
	}
	lost, lerr := d.trace.Lost()
	if err == nil {
		err = lerr
	}
	d.lost = max(d.lost, lost.Drops+d.missed)
	// The kept records may be one more than there is room for; a later one tells what is not told now.
	if d.lost > d.told && len(d.kept) <= d.room {
		d.keep(flow.Drop{Reason: flow.DropTableFull, Packets: d.lost - d.told})
		d.told = d.lost
	}
	if werr := d.write(); werr != nil {
		return fmt.Errorf("%w (they are written again)", werr)
	}
	return err
}

func (d *drops) keep(r flow.Drop) {
	d.next++
	r.Boot, r.Sequence, r.AgentIP = d.boot, d.next, d.agentIP
	d.kept = append(d.kept, r)
}

func (d *drops) write() error {
	for i := range d.kept {
		if err := d.sink.WriteDrop(&d.kept[i]); err != nil {
			return err
		}
	}
	return nil
}

// written lets go of the records: the sink has flushed them.
func (d *drops) written() { d.kept = d.kept[:0] }

func dropRecord(t *trace.Drop) flow.Drop {
	return flow.Drop{NetNS: t.Namespace, Src: t.Src.Addr(), Dst: t.Dst.Addr(),
		SrcPort: t.Src.Port(), DstPort: t.Dst.Port(), Protocol: t.Protocol,
		Reason: t.Reason, Packets: t.Packets, Start: t.First, End: t.Last}
}
