package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/vmtests/initramfs"
	"github.com/weirnet/weir/vmtests/wire"
)

// output writes to the terminal at the host.
type output struct{ to *wire.Writer }

// Write sends b as one frame.
func (o output) Write(b []byte) (int, error) {
	return len(b), o.to.Send(wire.TypeOutput, wire.Output{Text: string(b)})
}

// builtin is a command of the shell.
type builtin struct {
	name, args, help string
	run              func(ctx context.Context, w *worker, args []string, out io.Writer) error
}

// builtins is filled in by a function: the commands refer to it.
func builtins() []builtin {
	return []builtin{
		{"help", "", "show this", shellHelp},
		{"run", "", "run the scenario of this shell and show its verdict", shellRun},
		{"links", "[NS]", "interfaces, their addresses and state", shellLinks},
		{"routes", "[NS]", "routes", shellRoutes},
		{"ns", "", "network namespaces that have a name", shellNamespaces},
		{"exec", "NS COMMAND...", "run a command inside a network namespace", shellExec},
		{"ct", "[ARGS]", "the connection table (same as: weir ct list)", shellWeir("ct", "list")},
		{"weir", "ARGS...", "any weir command", shellWeir()},
		{"dmesg", "[TEXT]", "the kernel's log, or its lines with TEXT", shellDmesg},
		{"ls", "[PATH]", "files in a folder", shellList},
		{"cat", "FILE...", "contents of files", shellCat},
		{"write", "FILE TEXT...", "write text to a file, as under /proc/sys", shellWrite},
		{"ps", "", "processes", shellProcesses},
		{"modules", "", "kernel modules", shellModules},
		{"uname", "", "release of the kernel", shellUname},
		{"exit", "", "leave and switch the machine off", nil},
	}
}

// shell serves the terminal at the host until it says exit or goes away.
func (w *worker) shell() error {
	out := output{w.to}
	lines := make(chan string)
	interrupts := make(chan struct{}, 1)
	go w.hearTerminal(lines, interrupts)
	if len(w.orders.Jobs) > 0 && w.opts.Shell != nil {
		if err := w.opts.Shell.Setup(context.Background(), w.orders.Jobs[0], out); err != nil {
			fmt.Fprintln(out, "set up scenario:", err)
		}
	}
	for {
		if err := w.to.Send(wire.TypePrompt, wire.Prompt{Text: release() + "> "}); err != nil {
			return err
		}
		line, ok := <-lines
		args := strings.Fields(line)
		if !ok || len(args) == 1 && args[0] == "exit" {
			return w.goodBye(wire.Bye{})
		}
		if len(args) == 0 {
			continue
		}
		select {
		case <-interrupts: // of the command before
		default:
		}
		if err := w.shellCommand(args, interrupts, out); err != nil {
			fmt.Fprintln(out, err)
		}
	}
}

// hearTerminal hands on what is typed.
func (w *worker) hearTerminal(lines chan<- string, interrupts chan<- struct{}) {
	defer close(lines)
	for {
		f, err := w.from.Next()
		if err != nil && !errors.Is(err, wire.ErrCorrupt) {
			return
		}
		var in wire.Input
		if err != nil || f.Type != wire.TypeInput || f.Decode(&in) != nil {
			continue
		}
		if !in.Interrupt {
			lines <- in.Line
			continue
		}
		select {
		case interrupts <- struct{}{}:
		default:
		}
	}
}

// shellCommand runs one command until it ends or is interrupted.
func (w *worker) shellCommand(args []string, interrupts <-chan struct{}, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.dispatch(ctx, args, out) }()
	for {
		select {
		case err := <-done:
			return err
		case <-interrupts:
			cancel()
		}
	}
}

func (w *worker) dispatch(ctx context.Context, args []string, out io.Writer) error {
	if w.opts.Shell != nil { // its commands win: they know the scenario
		if known, err := w.opts.Shell.Command(ctx, args, out); known {
			return err
		}
	}
	for _, b := range builtins() {
		if b.name == args[0] && b.run != nil {
			return b.run(ctx, w, args[1:], out)
		}
	}
	return fmt.Errorf("%s: no such command; help shows those there are", args[0])
}

func shellHelp(_ context.Context, w *worker, _ []string, out io.Writer) error {
	for _, b := range builtins() {
		fmt.Fprintf(out, "  %-22s %s\n", strings.TrimSpace(b.name+" "+b.args), b.help)
	}
	if w.opts.Shell != nil {
		for line := range strings.Lines(w.opts.Shell.Help()) {
			name, help, _ := strings.Cut(strings.TrimSpace(line), "  ")
			fmt.Fprintf(out, "  %-22s %s\n", name, strings.TrimSpace(help))
		}
	}
	return nil
}

func shellRun(ctx context.Context, w *worker, _ []string, out io.Writer) error {
	if len(w.orders.Jobs) == 0 {
		return errors.New("run: the shell was started without a scenario")
	}
	if w.runner == nil {
		return errors.New("run: the datapath is not loaded")
	}
	w.kernel.drain()
	s := w.runner.Run(ctx, w.orders.Jobs[0])
	fmt.Fprintf(out, "%s: %s (%d ms) %s\n", s.Name, s.Verdict, s.Millis, s.Reason)
	if err := result.DiffText(out, s.Differences); err != nil {
		return err
	}
	for _, l := range w.kernel.drain() {
		fmt.Fprintln(out, l)
	}
	return nil
}

// shellWeir runs the weir binary as a process of its own, with args before those typed.
func shellWeir(before ...string) func(context.Context, *worker, []string, io.Writer) error {
	return func(ctx context.Context, _ *worker, args []string, out io.Writer) error {
		return execute(ctx, append(slices.Clone(before), args...), out)
	}
}

func execute(ctx context.Context, args []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, initramfs.Init, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, envRole+"=")
	})
	cmd.Args[0] = "weir"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("weir: %v", exit)
	}
	return err
}

// shellExec runs weir or a command of the shell with the thread in another namespace.
func shellExec(ctx context.Context, w *worker, args []string, out io.Writer) error {
	if len(args) < 2 {
		return errors.New("exec: want a namespace and a command")
	}
	return inNamespace(args[0], func() error { return w.dispatch(ctx, args[1:], out) })
}

func shellUname(_ context.Context, _ *worker, _ []string, out io.Writer) error {
	_, err := fmt.Fprintln(out, release())
	return err
}

func shellDmesg(_ context.Context, _ *worker, args []string, out io.Writer) error {
	k, err := openKernelLog(false)
	if err != nil {
		return err
	}
	defer unix.Close(k.fd)
	text := strings.Join(args, " ")
	for _, l := range k.drain() {
		if strings.Contains(l, text) {
			fmt.Fprintln(out, l)
		}
	}
	return nil
}
