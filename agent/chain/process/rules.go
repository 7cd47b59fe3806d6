package process

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Rules are what processes may be given: the part of the agent's configuration that chain files cannot change.
type Rules struct {
	// Allow says that members may have processes: that files are executed.
	Allow bool
	// Root says that a process may run as root: with its user and files, and without its capabilities.
	Root bool
	// Capabilities and Syscalls are those that a process may ask for.
	Capabilities, Syscalls []string
}

// ErrNotAllowed is returned for a process where there shall be none.
var ErrNotAllowed = errors.New("no file is executed unless the agent's configuration has chains.processes.allow: true")

// Check tells what is wrong with the rules.
func (r *Rules) Check() error {
	for _, name := range r.Capabilities {
		if _, err := capability(name); err != nil {
			return fmt.Errorf("capabilities: %w", err)
		}
	}
	for _, name := range r.Syscalls {
		if err := checkSyscall(name); err != nil {
			return fmt.Errorf("syscalls: %w", err)
		}
	}
	return nil
}

// admit tells whether a process may be what it shall be.
func (r *Rules) admit(s *Spec, who identity) error {
	if who.root() && !r.Root {
		return errors.New("user: it would be root, or in root's group; the agent's configuration has no chains.processes.root: true")
	}
	for _, name := range s.Capabilities {
		if !slices.Contains(r.Capabilities, name) {
			return fmt.Errorf("capabilities: %s is not among chains.processes.capabilities of the agent's configuration", name)
		}
	}
	for _, name := range s.Syscalls {
		if !slices.Contains(r.Syscalls, name) {
			return fmt.Errorf("syscalls: %s is not among chains.processes.syscalls of the agent's configuration", name)
		}
	}
	return nil
}

// Needs are the capabilities that an agent needs to start and end processes by these rules; none where there are no
// processes.
func (r *Rules) Needs() (all []cap.Value) {
	if !r.Allow {
		return nil
	}
	all = []cap.Value{cap.KILL, cap.SETGID, cap.SETPCAP, cap.SETUID}
	for _, name := range r.Capabilities {
		if v, err := capability(name); err == nil && !slices.Contains(all, v) { // checked before
			all = append(all, v)
		}
	}
	return all
}

// able tells whether this process has them.
func (r *Rules) able() error {
	have := cap.GetProc()
	var missing []string
	for _, v := range r.Needs() {
		if has, err := have.GetFlag(cap.Effective, v); err != nil || !has {
			missing = append(missing, v.String())
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("the agent needs %s to start processes", strings.Join(missing, ", "))
}
