// Package cli is `weir chain`.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/artifact"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/control"
)

// Command is `weir chain`.
func Command() *cobra.Command {
	var opts options
	c := &cobra.Command{
		Use:   "chain",
		Short: "order eBPF programs on an interface, and change them without losing a packet",
		Long: `Puts several eBPF programs on one hook of an interface, in an order, and changes them in one
piece: a packet meets the programs of before or those of after, never some of each. An apply
that fails leaves everything as it was. Programs of other owners stay where they are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVar(&opts.State, "state", chain.DefaultState, "folder of the store")
	c.PersistentFlags().StringVar(&opts.Pin, "pin", chain.DefaultPin, "folder on a BPF file system for what is in the kernel")
	c.PersistentFlags().StringVar(&opts.socket, "socket", control.DefaultSocket,
		"control socket of an agent, to be asked when it owns the chains")
	c.PersistentFlags().StringArrayVar(&opts.keys, "key", nil,
		"public key (PEM; Ed25519 or P-256) that must have signed every object; more than once: one of them")
	c.AddCommand(planCommand(&opts), applyCommand(&opts), listCommand(&opts), getCommand(&opts), watchCommand(&opts),
		deleteCommand(&opts), processCommand(&opts, "start", "start the process of a member that was stopped or has ended", operator.Start),
		processCommand(&opts, "stop", "stop the process of a member, and not its program", operator.Stop), sumCommand())
	return c
}

// options say where chains are kept, and who may own them.
type options struct {
	chain.Options
	socket string
	keys   []string // files
}

// operator changes chains: a manager of our own, or the agent that has the lock.
type operator interface {
	Plan(*chain.Spec, chain.ApplyOptions) ([]chain.Change, error)
	Apply(*chain.Spec, chain.ApplyOptions) ([]chain.Change, error)
	Delete(chain.ApplyOptions, ...chain.Key) ([]chain.Change, error)
	List() ([]chain.Status, error)
	Start(k chain.Key, member string) error
	Stop(k chain.Key, member string) error
}

// local is a manager as an operator.
type local struct{ *chain.Manager }

func (l local) List() ([]chain.Status, error) { return l.Manager.List(), nil }

// with finds the operator for the time of a call.
func with(ctx context.Context, opts *options, fn func(operator) error) (err error) {
	if opts.Keys, err = artifact.ReadKeys(opts.keys); err != nil {
		return err
	}
	m, err := chain.Open(opts.Options)
	if errors.Is(err, chain.ErrBusy) && control.Answers(opts.socket) {
		return fn(api.Dial(ctx, opts.socket))
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(local{m}), m.Close())
}

func sumCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sum OBJECT",
		Short: "tell the sha256 of an object, as a chain's member wants it",
		Long: `Gets an object from where a member's ` + "`object`" + ` may be, and prints its SHA-256: a file, a URL,
or oci:FOLDER[:TAG], and behind a # its name in an archive.`,
		Example: "  weir chain sum ./limit.o\n  weir chain sum 'https://example.com/limit.tar.gz#limit/limit.o'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			folder, err := os.Getwd()
			if err != nil {
				return err
			}
			source, err := artifact.Parse(artifact.Rooted(args[0], folder))
			if err != nil {
				return err
			}
			var f artifact.Fetcher
			o, err := f.Read(cmd.Context(), source)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), o.Sum)
			return err
		},
	}
}

// applyFlags are the flags of plan and apply.
type applyFlags struct {
	file   string
	output string
	chain.ApplyOptions
}

func (f *applyFlags) on(c *cobra.Command) {
	c.Flags().StringVarP(&f.file, "file", "f", "chain.yaml", "file that says what the chains shall be")
	c.Flags().BoolVar(&f.Prune, "prune", false, "delete the chains that the file does not name")
	forceFlag(c, &f.Force)
	outputFlag(c, &f.output)
}

func forceFlag(c *cobra.Command, force *bool) {
	c.Flags().BoolVar(force, "force", false, "also where another program has taken a chain's place")
}

func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "table", "table or json")
}

func checkOutput(output string) error {
	if output != "table" && output != "json" {
		return fmt.Errorf("--output %s: want table or json", output)
	}
	return nil
}

// spec reads the file.
func (f *applyFlags) spec() (*chain.Spec, error) {
	if err := checkOutput(f.output); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("read the chains: %w", err)
	}
	return chain.Parse(f.file, data)
}

func planCommand(opts *options) *cobra.Command {
	return changing(opts, "plan", "tell what apply would do, and do nothing", operator.Plan)
}

func applyCommand(opts *options) *cobra.Command {
	return changing(opts, "apply", "make chains what a file says, all or none", operator.Apply)
}

// changing is a command that gives the chains of a file to an operator, and tells what becomes of them.
func changing(opts *options, use, short string,
	do func(operator, *chain.Spec, chain.ApplyOptions) ([]chain.Change, error)) *cobra.Command {
	var f applyFlags
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.spec()
			if err != nil {
				return err
			}
			return with(cmd.Context(), opts, func(m operator) error {
				changes, err := do(m, s, f.ApplyOptions)
				if err != nil {
					return err
				}
				return writeChanges(cmd.OutOrStdout(), f.output, changes)
			})
		},
	}
	f.on(c)
	return c
}

func listCommand(opts *options) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "list",
		Short: "list the chains, and what of them the kernel has",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return with(cmd.Context(), opts, func(m operator) error {
				all, err := m.List()
				if err != nil {
					return err
				}
				if output == "json" {
					return writeJSON(cmd.OutOrStdout(), all)
				}
				return writeStatus(cmd.OutOrStdout(), all)
			})
		},
	}
	outputFlag(c, &output)
	return c
}

func deleteCommand(opts *options) *cobra.Command {
	var k chain.Key
	var output string
	var apply chain.ApplyOptions
	c := &cobra.Command{
		Use:   "delete INTERFACE HOOK",
		Short: "take a chain off its hook",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkOutput(output); err != nil {
				return err
			}
			k.Interface = args[0]
			if k.Hook, err = hook.ParseKind(args[1]); err != nil {
				return err
			}
			return with(cmd.Context(), opts, func(m operator) error {
				changes, err := m.Delete(apply, k)
				if err != nil {
					return err
				}
				return writeChanges(cmd.OutOrStdout(), output, changes)
			})
		},
	}
	c.Flags().StringVar(&k.Namespace, "namespace", "", "network namespace, by name or path")
	forceFlag(c, &apply.Force)
	outputFlag(c, &output)
	return c
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func writeChanges(w io.Writer, output string, changes []chain.Change) error {
	if output == "json" {
		return writeJSON(w, changes)
	}
	for i := range changes {
		c := &changes[i]
		what := fmt.Sprintf("generation %d -> %d", c.From, c.To)
		if c.Unchanged() {
			what = fmt.Sprintf("generation %d, unchanged", c.From)
		}
		if c.Drift != chain.None {
			what += ", was " + string(c.Drift)
		}
		if _, err := fmt.Fprintf(w, "%s (%s): %s\n", c.Key, orNone(c.Backend), what); err != nil {
			return err
		}
		if c.Fallback != "" {
			if _, err := fmt.Fprintf(w, "  not by %s\n", c.Fallback); err != nil {
				return err
			}
		}
		for _, s := range c.Steps {
			if _, err := fmt.Fprintf(w, "  %v\n", s); err != nil {
				return err
			}
		}
		for _, s := range c.Processes {
			if _, err := fmt.Fprintf(w, "  %v\n", s); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeStatus(w io.Writer, all []chain.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHAIN\tBACKEND\tGENERATION\tSTATE\tMEMBER\tPRIORITY\tPROGRAM\tPROCESS")
	for i := range all {
		s := &all[i]
		head := fmt.Sprintf("%s\t%s\t%d\t%s", s.Key, orNone(s.Backend), s.Generation, stateOf(s))
		if len(s.Members) == 0 {
			fmt.Fprintf(t, "%s\t-\t-\t-\t-\n", head)
		}
		for j := range s.Members {
			m := &s.Members[j]
			program := "-"
			if m.Program != 0 {
				program = fmt.Sprint(m.Program)
			}
			if m.Disabled {
				program = "disabled"
			}
			process := "-"
			if m.Process != nil {
				process = string(m.Process.State)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", head, m.Name, m.Priority, program, process)
			head = "\t\t\t"
		}
	}
	return t.Flush()
}

func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
