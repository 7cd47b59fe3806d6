package process

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weirnet/weir/agent/bytesize"
)

// Spec is what a process shall be.
type Spec struct {
	// Command is the file that is executed: an absolute path, or a name inside of what the member's object is in, an
	// archive, an image or a folder.
	Command string `yaml:"command" json:"command"`
	// SHA256 is the file's checksum, in hexadecimal; empty: whatever there is, but not from a server.
	SHA256 string `yaml:"sha256" json:"sha256,omitempty"`
	// Args are its arguments.
	Args []string `yaml:"args" json:"args,omitempty"`
	// Env is its environment, all of it.
	Env map[string]string `yaml:"env" json:"env,omitempty"`
	// User and Group are whom it runs as, by name or number. Group empty: the user's own.
	User  string `yaml:"user" json:"user"`
	Group string `yaml:"group" json:"group,omitempty"`
	// Capabilities (capabilities(7)), like cap_net_raw, are those that it has; Syscalls, like bpf, those of the
	// refused system calls that it may make. Both must be among those of the Rules.
	Capabilities []string `yaml:"capabilities" json:"capabilities,omitempty"`
	Syscalls     []string `yaml:"syscalls" json:"syscalls,omitempty"`
	Limits       Limits   `yaml:"limits" json:"limits,omitzero"`
	// Restart says when it is started again after it has ended: Always (also ""), OnFailure or Never.
	Restart string `yaml:"restart" json:"restart,omitempty"`
}

// Limits are what a process and its children may use together; 0: as much as there is.
type Limits struct {
	Memory bytesize.Size `yaml:"memory" json:"memory,omitempty"` // at least MinMemory
	CPU    float64       `yaml:"cpu" json:"cpu,omitempty"`       // in CPUs, at least MinCPU
	PIDs   int           `yaml:"pids" json:"pids,omitempty"`     // processes and threads
}

// The values of Spec.Restart.
const (
	Always    = "always"
	OnFailure = "on-failure" // unless it has ended with status 0
	Never     = "never"
)

// The least limits.
const (
	MinMemory = 4 << 20 // bytes; with less, not even the beginning of most programs fits
	MinCPU    = 0.01    // 1 ms, the least that the kernel takes, of each period of 100 ms
)

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Check tells what is wrong with a spec, and in which field.
func (s *Spec) Check() (field string, err error) {
	switch {
	case s.Command == "":
		return "command", errors.New("is missing; want an absolute path, or a name inside of the member's artifact")
	case strings.ContainsRune(s.Command, 0):
		return "command", fmt.Errorf("%q has a zero byte", s.Command)
	case !filepath.IsAbs(s.Command) && (!filepath.IsLocal(s.Command) || filepath.Clean(s.Command) != s.Command || s.Command == "."):
		return "command", fmt.Errorf("%q is no name inside of the member's artifact, like bin/limitd, and no absolute path", s.Command)
	case s.SHA256 != "" && !hexSum.MatchString(s.SHA256):
		return "sha256", fmt.Errorf("%q; want 64 hexadecimal digits in lower case", s.SHA256)
	case s.User == "":
		return "user", errors.New("is missing; want the user that the process runs as, by name or number")
	case s.Restart != "" && s.Restart != Always && s.Restart != OnFailure && s.Restart != Never:
		return "restart", fmt.Errorf("%q; want %s, %s or %s", s.Restart, Always, OnFailure, Never)
	}
	if field, err := s.Limits.check(); err != nil {
		return "limits." + field, err
	}
	return s.checkLists()
}

func (s *Spec) checkLists() (field string, err error) {
	for i, a := range s.Args {
		if strings.ContainsRune(a, 0) {
			return fmt.Sprintf("args[%d]", i), fmt.Errorf("%q has a zero byte", a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(s.Env[name], 0) {
			return "env", fmt.Errorf("%q: a name is not empty and has no =, and nothing a zero byte", name)
		}
	}
	for i, name := range s.Capabilities {
		if _, err := capability(name); err != nil {
			return fmt.Sprintf("capabilities[%d]", i), err
		}
	}
	for i, name := range s.Syscalls {
		if err := checkSyscall(name); err != nil {
			return fmt.Sprintf("syscalls[%d]", i), err
		}
	}
	return "", nil
}

func (l Limits) check() (field string, err error) {
	switch {
	case l.Memory != 0 && l.Memory < MinMemory:
		return "memory", fmt.Errorf("%d; want at least 4MiB", l.Memory)
	case l.CPU != 0 && !(l.CPU >= MinCPU && l.CPU <= maxCPU):
		return "cpu", fmt.Errorf("%v; want a number of CPUs from %v to %d", l.CPU, MinCPU, maxCPU)
	case l.PIDs < 0:
		return "pids", fmt.Errorf("%d; want a number of processes", l.PIDs)
	}
	return "", nil
}

// maxCPU is more CPUs than there are.
const maxCPU = 1 << 16

// capability is one by its name.
func capability(name string) (cap.Value, error) {
	v, err := cap.FromName(name)
	if err != nil || v.String() != name {
		return 0, fmt.Errorf("%q is no capability; one is written like cap_net_raw", name)
	}
	return v, nil
}
