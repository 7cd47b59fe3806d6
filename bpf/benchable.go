package bpf

import "github.com/cilium/ebpf"

// Stub configures a hook without attaching it and returns the program that an attachment would
// run, for benchmarks that send it packets with BPF_PROG_TEST_RUN. The datapath closes it.
func (d *Datapath) Stub(h Hook) (*ebpf.Program, error) {
	number, _, err := d.assign(h)
	if err != nil {
		return nil, err
	}
	return d.stub(number)
}

// Tables returns the maps that hold the connections of IPv4 and of IPv6. The datapath closes them.
func (d *Datapath) Tables() (v4, v6 *ebpf.Map) { return d.objs.Conns4, d.objs.Conns6 }
