// Package privileges takes from the process what it does not need any more.
package privileges

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Need is a capability (capabilities(7)) that the agent makes use of.
type Need struct {
	Cap cap.Value
	// Always says that it is kept in any case; others only where the configuration asks for them.
	Always bool
	// For says what it is for, Without what does not work without it.
	For, Without string
}

// Needs lists what the agent makes use of.
func Needs() []Need {
	return []Need{
		{cap.BPF, true, "programs and maps", "the agent cannot run"},
		{cap.NET_ADMIN, true, "attaching to interfaces, and the features nat, dns, handshake and sockets", "the agent cannot watch interfaces"},
		{cap.PERFMON, true, "comparing packet pointers in programs, the features drops and rtt, and the sweep's iterator",
			"the agent cannot run: the kernel's verifier refuses its programs"},
		{cap.SYS_ADMIN, false, "entering other network namespaces (setns), and mounting a BPF file system",
			"no interfaces in other network namespaces; with `pin`, a BPF file system must be mounted already"},
		{cap.SYS_PTRACE, false, "finding network namespaces by the processes in them",
			"what a killed agent has left in a network namespace that is not mounted stays there"},
		{cap.SYS_RESOURCE, false, "lifting the limit on locked memory, before Linux 5.11",
			"before Linux 5.11, the limit (ulimit -l) must be lifted beforehand"},
	}
}

// Keep lists what stays once the agent runs: what is needed always, and the rights to enter network
// namespaces, when interfaces in others are watched.
func Keep(namespaces bool) []cap.Value {
	var keep []cap.Value
	for _, n := range Needs() {
		if n.Always || namespaces && n.Cap == cap.SYS_ADMIN {
			keep = append(keep, n.Cap)
		}
	}
	return keep
}

// Drop takes all capabilities but some from all threads, for good: also by executing a program the process
// gets nothing back. What it does not have it does not get.
func Drop(keep []cap.Value) error {
	have := cap.GetProc()
	left := cap.NewSet()
	for _, v := range keep {
		has, err := have.GetFlag(cap.Permitted, v)
		if err == nil && has {
			err = left.SetFlag(cap.Permitted, true, v)
		}
		if err == nil && has {
			err = left.SetFlag(cap.Effective, true, v)
		}
		if err != nil {
			return fmt.Errorf("keep %v: %w", v, err)
		}
	}
	if err := bound(have, keep); err != nil {
		return err
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	if err := cap.ResetAmbient(); err != nil {
		return fmt.Errorf("drop ambient capabilities: %w", err)
	}
	if err := left.SetProc(); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// bound empties the bounding set, where that is allowed: where it is not, there are no new privileges
// anyhow.
func bound(have *cap.Set, keep []cap.Value) error {
	if may, err := have.GetFlag(cap.Effective, cap.SETPCAP); err != nil || !may {
		return err
	}
	for v := range cap.MaxBits() {
		if slices.Contains(keep, v) {
			continue
		}
		if err := cap.DropBound(v); err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", v, err)
		}
	}
	return nil
}
