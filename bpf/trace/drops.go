package trace

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/weirnet/weir/bpf/batch"
)

// Drop is the packets of one tuple that the kernel has dropped for one reason.
type Drop struct {
	Tuple
	// Reason is the kernel's name for it, like no-socket: in lower case with dashes, without
	// what all names begin with. It is "unknown" on kernels before 5.17.
	Reason  string
	Packets uint64
	// First and Last are the times of two of the drops, in ns of the monotonic clock.
	First, Last int64
}

type drops struct {
	objs    dropsObjects
	link    link.Link
	turns   turns
	reasons *reasons
}

const dropsTracepoint = "kfree_skb"

// reasonArgument is which argument of the tracepoint the program takes for the reason.
const reasonArgument = 2

func openDrops(types *btf.Spec, maximum int) (*drops, error) {
	args, err := arguments(types, dropsTracepoint)
	if err != nil {
		return nil, err
	}
	if err := wantPointer(dropsTracepoint, args, "sk_buff"); err != nil {
		return nil, err
	}
	d := &drops{reasons: readReasons(types, args)}
	spec, err := loadDrops()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	if err := errors.Join(
		spec.Variables[dropsVarHasReason].Set(d.reasons.told),
		spec.Variables[dropsVarNoDrop].Set(d.reasons.noDrop),
	); err != nil {
		return nil, fmt.Errorf("set the object's constants: %w", err)
	}
	if err := load(spec, types, maximum, &d.objs); err != nil {
		return nil, err
	}
	d.turns.tables[0], d.turns.tables[1] = d.objs.Drops0, d.objs.Drops1
	d.turns.turn = d.objs.Turn
	if d.link, err = attach(d.objs.WeirDrops, dropsTracepoint); err != nil {
		return nil, errors.Join(err, d.objs.Close())
	}
	return d, nil
}

func (d *drops) close() error {
	return errors.Join(d.link.Close(), d.objs.Close())
}

// Drops appends what the kernel has dropped since the last call; each packet is told once. It
// returns what it has read also with an error, after which the next calls tell the rest. It
// takes about as long as an RCU grace period: 10 ms, more on a busy machine.
func (t *Trace) Drops(to []Drop) ([]Drop, error) {
	if t.drops == nil {
		return to, nil
	}
	table, err := t.drops.turns.quiet()
	if err != nil {
		return to, fmt.Errorf("drain the drops: %w", err)
	}
	err = batch.Take(table, func(k *dropsTuple, v *dropsDrop) {
		to = append(to, Drop{Tuple: k.tuple(), Reason: t.drops.reasons.name(k.Reason),
			Packets: v.Packets, First: int64(v.First), Last: int64(v.Last)})
	})
	if err != nil {
		return to, fmt.Errorf("drain the drops: %w", err)
	}
	return to, nil
}
