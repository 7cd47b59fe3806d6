package bpf

import (
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

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

// LongestRead goes through the tables as a pass does, and returns the most CPU time that one of its
// reads took, with the look at what it shows. Most of it is spent in the kernel, without a pause.
func (d *Datapath) LongestRead(want Wanted) (longest time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := d.Pass(want)
	p.show = Show{Entry: func(*Entry) error { return nil }, Expired: func(Key) {}}
	for len(p.left) > 0 {
		begin, err := threadTime()
		if err != nil {
			return 0, err
		}
		if err := p.read(); err != nil {
			return 0, err
		}
		end, err := threadTime()
		if err != nil {
			return 0, err
		}
		longest = max(longest, end-begin)
	}
	return longest, nil
}

func threadTime() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), err
}
