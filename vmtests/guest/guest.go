// Package guest is the inside of a virtual machine: the first process, which sets the machine up,
// and the worker, which runs scenarios or serves a shell.
//
// Both are the weir binary. PID 1 mounts the file systems, loads the modules and starts the
// worker as a process of its own: libraries that look at /proc/self/mountinfo early then see the
// truth, and when the worker dies there is somebody left to tell the host how. The worker speaks
// the protocol of package wire on the second serial line.
package guest

import (
	"context"
	"io"
	"os"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

// Argument is the kernel argument that makes the binary a guest. The kernel hands arguments that
// it does not know to PID 1 as environment.
const Argument = envRole + "=" + roleInit

const (
	envRole    = "WEIR_GUEST"
	roleInit   = "init"
	roleWorker = "worker"
)

// Runner runs scenarios; runner.Runner is one.
type Runner interface {
	// Run runs one scenario. Whatever happens is the verdict.
	Run(ctx context.Context, job runner.Job) result.Scenario
	// Probe finds out what the kernel can, so that no restored guest has to.
	Probe() error
	// Verified is how many instructions the verifier has walked, for each program.
	Verified() (map[string]int, error)
	// Memory is how many bytes each map takes.
	Memory() (map[string]uint64, error)
	Close() error
}

// Shell adds commands to the shell of a guest.
type Shell interface {
	// Help is one line per command: its name, two blanks, what it does.
	Help() string
	// Setup builds the topology of a scenario, for the user to look at and play with.
	Setup(ctx context.Context, job runner.Job, out io.Writer) error
	// Command runs a command. It returns false when there is none of that name.
	Command(ctx context.Context, args []string, out io.Writer) (bool, error)
}

// Options say what a guest does. The zero value runs scenarios with runner.New and has the
// built-in shell commands only.
type Options struct {
	// NewRunner loads the datapath. It is called once, before the snapshot is taken.
	NewRunner func() (Runner, error)
	// Shell may be nil.
	Shell Shell
}

// IsGuest tells whether this process belongs to a guest, and Main is to be called.
func IsGuest() bool {
	switch os.Getenv(envRole) {
	case roleInit:
		return os.Getpid() == 1
	case roleWorker:
		return true
	}
	return false
}

// Main does the guest's work and does not return.
func Main(opts Options) {
	if opts.NewRunner == nil {
		opts.NewRunner = func() (Runner, error) { return runner.New(runner.Options{}) }
	}
	if os.Getenv(envRole) == roleInit {
		if os.Getpid() != 1 { // it ends by killing everything else
			panic("guest: Main of PID 1 in another process")
		}
		initMain()
	}
	// What the worker starts is not a guest: `weir agent` is the agent there as anywhere.
	_ = os.Unsetenv(envRole)
	os.Exit(workerMain(opts))
}
