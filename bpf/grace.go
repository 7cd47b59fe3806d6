package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h: it waits for an RCU grace
// period, and so for every CPU to leave the packet path once. With one CPU the kernel skips
// the wait, rightly: this very call shows that the CPU is not in the packet path.
const membarrierGlobal = 1

// Grace waits until every CPU has left the packet path once since the call. It takes about
// as long as an RCU grace period: 10 ms, more on a busy machine.
func (d *Datapath) Grace() error { return Grace() }

// Grace waits until every eBPF program that runs at the time of the call has ended, likewise.
func Grace() error {
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	if errno == 0 {
		return nil
	}
	// Kernels with CPUs in full dynticks mode refuse (EINVAL), others may not have the call.
	if err := graceByMap(); err != nil {
		return fmt.Errorf("wait for running programs: membarrier: %w, map update: %w", errno, err)
	}
	return nil
}

// graceByMap uses that the kernel waits for a grace period after an update of a map of maps
// (maybe_wait_bpf_programs in kernel/bpf/syscall.c).
func graceByMap() error {
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner,
	})
	if err != nil {
		return err
	}
	defer outer.Close()
	m, err := ebpf.NewMap(inner)
	if err != nil {
		return err
	}
	defer m.Close()
	return outer.Put(uint32(0), m)
}
