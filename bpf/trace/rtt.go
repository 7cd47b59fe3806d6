package trace

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/weirnet/weir/bpf/batch"
)

// RTT is what a TCP socket knows of the round-trip time to its peer. Src is the socket's own end.
// The times are the kernel's smoothed ones (srtt, RFC 6298), in microseconds.
type RTT struct {
	Tuple
	Min, Last, Max uint32
	// Samples is how many packets the socket received that it was asked at.
	Samples uint32
}

type rtt struct {
	objs  rttObjects
	link  link.Link
	turns turns
}

const rttTracepoint = "tcp_probe"

func openRTT(types *btf.Spec, maximum int) (*rtt, error) {
	args, err := arguments(types, rttTracepoint)
	if err != nil {
		return nil, err
	}
	if err := wantPointer(rttTracepoint, args, "sock"); err != nil {
		return nil, err
	}
	spec, err := loadRtt()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	r := &rtt{}
	if err := load(spec, types, maximum, &r.objs); err != nil {
		return nil, err
	}
	r.turns = turns{turn: r.objs.Turn}
	r.turns.tables[0], r.turns.tables[1] = r.objs.Rtts0, r.objs.Rtts1
	if r.link, err = attach(r.objs.WeirRtt, rttTracepoint); err != nil {
		return nil, errors.Join(err, r.objs.Close())
	}
	return r, nil
}

func (r *rtt) close() error {
	return errors.Join(r.link.Close(), r.objs.Close())
}

// RTT appends what sockets have learned since the last call: one item per socket that received
// packets. It returns what it has read also with an error. It takes about as long as an RCU
// grace period: 10 ms, more on a busy machine.
func (t *Trace) RTT(to []RTT) ([]RTT, error) {
	if t.rtt == nil {
		return to, nil
	}
	table, err := t.rtt.turns.quiet()
	if err != nil {
		return to, fmt.Errorf("drain the round-trip times: %w", err)
	}
	err = batch.Take(table, func(k *rttTuple, v *rttRoundTrip) {
		to = append(to, RTT{Tuple: (*dropsTuple)(k).tuple(),
			Min: v.Min, Last: v.Last, Max: v.Max, Samples: v.Samples})
	})
	if err != nil {
		return to, fmt.Errorf("drain the round-trip times: %w", err)
	}
	return to, nil
}
