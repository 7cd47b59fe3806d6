package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// subcommand is what the executable is called with to become a process.
const subcommand = "chain-exec"

// Files that it is started with, beside the standard ones.
const (
	orderFD   = 3 // the order, as JSON
	programFD = 4 // what it becomes
	reportFD  = 5 // takes why it did not
)

// order says what it becomes, and how.
type order struct {
	Parent       int // its process ID
	Argv, Env    []string
	UID, GID     int
	Capabilities []string
	Syscalls     []string
	Join         []string // files that it joins its cgroup by
	Script       bool
}

// Exec makes this process what a Supervisor has started it as, and does not return then. It must be called first of
// all, by every program in which there is a Supervisor.
func Exec() {
	if len(os.Args) != 2 || os.Args[1] != subcommand {
		return
	}
	debug.SetGCPercent(-1) // nothing here lasts, and nothing shall run beside it
	runtime.LockOSThread() // some of what follows is of the thread, which becomes the process
	err := become()
	report := os.NewFile(reportFD, "report")
	if _, writing := fmt.Fprint(report, err); writing != nil { // called by hand
		fmt.Fprintln(os.Stderr, "weir:", err)
	}
	os.Exit(1)
}

// become returns only when it fails.
func become() error {
	var o order
	in := os.NewFile(orderFD, "order")
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return fmt.Errorf("read what is to be executed; %s is for weir itself to call: %w", subcommand, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	refusals, err := filter(o.Syscalls)
	if err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("allow no dumps: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := closeFiles(o.Script); err != nil {
		return err
	}
	for _, file := range o.Join {
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			return fmt.Errorf("join the cgroup: %w", err)
		}
	}
	if err := o.giveUp(); err != nil {
		return err
	}
	// A change of the user undoes it, so it comes after that. The agent may have died before.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the agent: %w", err)
	}
	if os.Getppid() != o.Parent {
		return errors.New("the agent has ended")
	}
	if err := heed(); err != nil {
		return err
	}
	if err := install(refusals); err != nil {
		return err
	}
	return fmt.Errorf("execute it: %w", syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", programFD), o.Argv, o.Env))
}

// giveUp makes the process the user's, without rights but those that are said. No program that it executes gets any
// back.
func (o *order) giveUp() error {
	keep := cap.NewSet()
	var kept []cap.Value
	for _, name := range o.Capabilities {
		v, err := capability(name)
		if err != nil {
			return err
		}
		kept = append(kept, v)
	}
	if err := keepOnly(kept); err != nil {
		return err
	}
	if err := cap.SetGroups(o.GID); err != nil {
		return fmt.Errorf("become group %d: %w", o.GID, err)
	}
	if err := cap.SetUID(o.UID); err != nil {
		return fmt.Errorf("become user %d: %w", o.UID, err)
	}
	for _, flag := range []cap.Flag{cap.Permitted, cap.Effective, cap.Inheritable} {
		if err := keep.SetFlag(flag, true, kept...); err != nil {
			return fmt.Errorf("keep capabilities: %w", err)
		}
	}
	if err := keep.SetProc(); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := cap.SetAmbient(true, kept...); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	return nil
}

// keepOnly takes all capabilities but some from the bounding set.
func keepOnly(kept []cap.Value) error {
	keep := map[cap.Value]bool{}
	for _, v := range kept {
		keep[v] = true
	}
	for v := range cap.MaxBits() {
		if keep[v] {
			continue
		}
		if err := cap.DropBound(v); err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", v, err)
		}
	}
	return nil
}

// closeFiles makes all files but the standard ones close when the process becomes another one. An interpreter opens
// the script that it is given by its number.
func closeFiles(script bool) error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, f := range open {
		fd, err := strconv.Atoi(f.Name())
		if err == nil && fd > 2 && !(script && fd == programFD) {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
