package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

// shell is the prompt of `weir sim run --shell`.
type shell struct {
	stage *runner.Stage
	in    io.Reader
	out   io.Writer
}

const shellHelp = `in HOST COMMAND...  run a command inside a host's network namespace
in HOST  a shell there
exit  carry out the steps that are left, and judge
`

// runShell plays a scenario up to a step, and asks what to do.
func (f *runFlags) runShell(ctx context.Context, in io.Reader, w io.Writer, jobs []runner.Job) error {
	if len(jobs) != 1 {
		return fmt.Errorf("--shell: want one scenario, got %d", len(jobs))
	}
	if _, err := stopAt(f.shell, int(^uint(0)>>1)); err != nil {
		return err
	}
	s, err := f.open(w)
	if err != nil {
		return err
	}
	defer s.runner.Close()
	sh := &shell{in: in, out: w, stage: &runner.Stage{Runner: func() *runner.Runner { return s.runner }}}
	if err := sh.stage.Setup(ctx, jobs[0], w); err != nil {
		fmt.Fprintln(w, "weir:", err)
		return &ExitError{result.ExitHarness}
	}
	stop, err := stopAt(f.shell, sh.stage.Steps())
	if err == nil {
		err = sh.play(ctx, stop)
	}
	out := sh.stage.Finish(ctx)
	if err != nil {
		return err
	}
	out.Reproduce = "weir sim run --run '^" + regexp.QuoteMeta(out.Name) + "$'"
	if err := print(w, &out); err != nil {
		return err
	}
	s.kernel.Scenarios = append(s.kernel.Scenarios, out)
	return close(w, &result.Report{Kernels: []result.Kernel{s.kernel}})
}

// stopAt is how many steps are carried out before the prompt.
func stopAt(text string, steps int) (int, error) {
	if text == "end" {
		return steps, nil
	}
	where, number, ok := strings.Cut(text, ":")
	if !ok {
		where, number = "before", text
	}
	n, err := strconv.Atoi(number)
	if err != nil || where != "before" && where != "after" {
		return 0, fmt.Errorf("--shell %s: want a step, like 2, before:2, after:2 or end", text)
	}
	if n < 1 || n > steps {
		return 0, fmt.Errorf("--shell %s: the scenario has %d steps", text, steps)
	}
	if where == "before" {
		n--
	}
	return n, nil
}

// play carries out steps up to the prompt, and those that are left behind it.
func (s *shell) play(ctx context.Context, stop int) error {
	if err := s.stage.PlayTo(ctx, stop, s.out); err != nil {
		return err
	}
	for {
		fmt.Fprint(s.out, "weir> ")
		line, err := readLine(s.in)
		args := strings.Fields(line)
		if len(args) == 1 && args[0] == "exit" || errors.Is(err, io.EOF) && len(args) == 0 {
			fmt.Fprintln(s.out)
			return s.stage.PlayTo(ctx, s.stage.Steps(), s.out)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if len(args) == 0 {
			continue
		}
		if err := s.command(ctx, args); err != nil {
			fmt.Fprintln(s.out, err)
		}
	}
}

// readLine reads byte by byte: what follows the line belongs to whoever reads next, which may be
// a shell in a namespace.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	one := make([]byte, 1)
	for {
		n, err := r.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return b.String(), nil
		case n == 1:
			b.WriteByte(one[0])
		case err != nil:
			return b.String(), err
		}
	}
}

func (s *shell) command(ctx context.Context, args []string) error {
	switch args[0] {
	case "help":
		fmt.Fprint(s.out, s.stage.Help()+shellHelp)
		return nil
	case "in":
		return s.inside(ctx, args[1:])
	}
	known, err := s.stage.Command(ctx, args, s.out)
	if !known {
		return fmt.Errorf("%s: no such command; help shows those there are", args[0])
	}
	return err
}

// inside runs a command, or a shell, in a host's network namespace.
func (s *shell) inside(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("in: want a host, and a command")
	}
	command := args[1:]
	if len(command) == 0 {
		command = []string{"/bin/sh"}
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if f, ok := s.in.(*os.File); ok && (len(args) == 1 || isTerminal(f)) {
		cmd.Stdin = f // commands in a script must not eat the script
	}
	if err := s.stage.Do(args[0], cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
