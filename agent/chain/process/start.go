package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process that runs.
type child struct {
	cmd *exec.Cmd
	in  group
}

// start starts a program in a group. When that fails, nothing of it is left. The process dies with the thread that
// this is called on.
func (p *Program) start(in group, output *os.File) (_ *child, err error) {
	orders, orderer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	report, reporter, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close(), orderer.Close())
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"weir", subcommand}, Env: []string{},
		Stdout: output, Stderr: output,
		ExtraFiles:  []*os.File{orders, p.file, reporter},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, // a process group, too, which is ended as a whole
	}
	err = cmd.Start()
	closing := errors.Join(orders.Close(), reporter.Close())
	if err != nil {
		return nil, errors.Join(err, closing, orderer.Close(), report.Close())
	}
	c := &child{cmd, in}
	failed := json.NewEncoder(orderer).Encode(p.order(in))
	failed = errors.Join(failed, closing, orderer.Close())
	why, err := io.ReadAll(io.LimitReader(report, maxReport)) // ends when it has become the program
	failed = errors.Join(failed, err, report.Close())
	if len(why) > 0 {
		failed = errors.New(string(why))
	}
	if failed != nil {
		c.signal(unix.SIGKILL)
		_ = cmd.Wait() // it was told to fail
		return nil, failed
	}
	return c, nil
}

// maxReport is how long a report of a failure may be, in bytes.
const maxReport = 4096

func (p *Program) order(in group) order {
	return order{Parent: os.Getpid(), Argv: p.argv(), Env: p.environ(), UID: p.who.uid, GID: p.who.gid,
		Capabilities: p.spec.Capabilities, Syscalls: p.spec.Syscalls, Join: in.join(), Script: p.script}
}

// signal sends a signal to the whole process group. It must not be called after wait, when the number can be another's.
func (c *child) signal(s unix.Signal) { _ = unix.Kill(-c.cmd.Process.Pid, s) }

// ended waits until the process has ended, and leaves it a zombie: its number is its own until wait.
func (c *child) ended() error {
	for {
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// finish kills what the process, which has ended, has left behind, and returns how it has ended.
func (c *child) finish() (exit error, err error) {
	c.signal(unix.SIGKILL)
	err = c.in.remove()
	if exit = c.cmd.Wait(); exit != nil {
		var status *exec.ExitError
		if !errors.As(exit, &status) {
			return nil, errors.Join(err, fmt.Errorf("wait for the process: %w", exit))
		}
	}
	return exit, err
}
