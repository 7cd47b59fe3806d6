package vmtests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/kernel"
	"github.com/weirnet/weir/vmtests/qemu"
)

// ExitError is an error that asks for an exit code. main is expected to exit with it, and to
// print Err when there is one: a red run has said all there is to say already.
type ExitError struct {
	Code int
	Err  error
}

// Error is the message of the cause, or the code.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap gives the cause, which may be nil.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is the code to exit with.
func (e *ExitError) ExitCode() int { return e.Code }

// Silent tells that everything has been printed.
func (e *ExitError) Silent() bool { return e.Err == nil }

// usage marks an error as the user's.
func usage(err error) error { return &ExitError{result.ExitUsage, err} }

// broken marks an error as the harness's or the machine's.
func broken(err error) error { return &ExitError{result.ExitHarness, err} }

// Command is `weir vm`. Its errors that are not about usage are ExitErrors.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "Run scenarios on many kernels in virtual machines",
		Long: "Run scenarios on many kernels in virtual machines.\n\n" +
			"Kernels are named by line: 5.10, 6.12, 7.x (the newest 7.* below the newest\n" +
			"release), newest, rc (the newest release candidate), matrix (the seven that are\n" +
			"run when nobody chooses), all (every line of the archive), or a path to a\n" +
			"bzImage or to a folder with boot/vmlinuz-* and lib/modules/*.\n" +
			"They are fetched once from Debian's archive and kept in $WEIR_CACHE, or in\n" +
			"weir below the user's cache folder. No root, no KVM and no Docker is needed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(listCommand(), pullCommand(), runCommand(), shellCommand(), selftestCommand(), reproCommand())
	for _, c := range cmd.Commands() {
		c.SilenceUsage = true
		c.SilenceErrors = true
	}
	return cmd
}

// common are the flags that commands share.
type common struct {
	mirror kernel.Mirror
	accel  string
}

func (c *common) mirrorFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.mirror.Main, "mirror", "",
		"`URL` of a Debian mirror (default: the machine's own)")
	cmd.Flags().StringVar(&c.mirror.Security, "security-mirror", "",
		"`URL` of a mirror of Debian's security archive")
}

func (c *common) accelFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.accel, "accel", string(qemu.Auto),
		"auto (decided by a trial boot), tcg or kvm")
}

// store opens the cache of kernels. Slow steps are said on stderr.
func (c *common) store(cmd *cobra.Command) (*kernel.Store, error) {
	dir, err := kernel.CacheDir()
	if err != nil {
		return nil, usage(err)
	}
	return &kernel.Store{Dir: dir, Mirror: c.mirror, Log: func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "weir: "+format+"\n", args...)
	}}, nil
}

// binary is what guests run: this program itself.
func binary() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", broken(fmt.Errorf("find own binary: %w", err))
	}
	return path, nil
}

// interruptible is the command's context, ended by the signals that ask a program to stop. What
// runs then is stopped and cleaned up.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
}

// state is what is known about a line, in a word, and why.
func state(f kernel.Found) (word, why string) {
	switch {
	case f.Err == nil:
		return "cached", ""
	case errors.Is(f.Err, kernel.ErrUnavailable):
		return "unavailable", f.Err.Error()
	case errors.Is(f.Err, os.ErrNotExist) && !kernel.IsPath(f.Line):
		return "not fetched", ""
	}
	return "broken", strings.ReplaceAll(f.Err.Error(), "\n", " ")
}
