package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/process"
)

// processCommand is a command that does something to the process of a member.
func processCommand(opts *options, use, short string, do func(operator, chain.Key, string) error) *cobra.Command {
	var k chain.Key
	c := &cobra.Command{
		Use:   use + " INTERFACE HOOK MEMBER",
		Short: short,
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			k.Interface = args[0]
			if k.Hook, err = hook.ParseKind(args[1]); err != nil {
				return err
			}
			return with(cmd.Context(), opts, func(m operator) error { return do(m, k, args[2]) })
		},
	}
	c.Flags().StringVar(&k.Namespace, "namespace", "", "network namespace, by name or path")
	return c
}

// writeProcess writes what the process of a member does.
func writeProcess(w io.Writer, p *process.Status) error {
	what := string(p.State)
	if p.PID != 0 {
		what += fmt.Sprintf(" as %d", p.PID)
	}
	if !p.Since.IsZero() {
		what += " since " + p.Since.Format("2006-01-02 15:04:05")
	}
	if what += fmt.Sprintf(", %d restarts", p.Restarts); p.LastExit != "" {
		what += ", last exit: " + p.LastExit
	}
	_, err := fmt.Fprintf(w, "    process: %s\n", what)
	return err
}
