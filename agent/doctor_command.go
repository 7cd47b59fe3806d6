package agent

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/doctor"
)

// DoctorCommand is `weir doctor`.
func DoctorCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "find out whether the agent can run on this host, and with what",
		Long: `Tries, as the user and with the capabilities that it is run with, what the agent would do:
loads its programs, attaches them to the loopback device of a network namespace of its
own, and loads each feature for a moment. Nothing of it stays. For what does not work it
says what follows. It fails when the agent could not do its work.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %s: want text or json", output)
			}
			findings := doctor.Examine()
			for _, name := range Features() {
				findings = append(findings, examineFeature(name))
			}
			write := findingsText
			if output == "json" {
				write = func(w io.Writer, all []doctor.Finding) error { return writeJSON(w, all) }
			}
			if err := write(cmd.OutOrStdout(), findings); err != nil {
				return err
			}
			return verdict(findings)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

func examineFeature(name string) doctor.Finding {
	note, err := ProbeFeature(name)
	f := doctor.Note("feature "+name, "the agent goes on without it", err)
	if err == nil {
		f.Detail = note
	}
	return f
}

func findingsText(w io.Writer, all []doctor.Finding) error {
	var b strings.Builder
	for _, f := range all {
		state := "ok     "
		switch {
		case f.OK:
		case f.Needed:
			state = "FAILS  "
		default:
			state = "without"
		}
		fmt.Fprintf(&b, "%s  %s", state, f.Check)
		if f.Detail != "" {
			fmt.Fprintf(&b, ": %s", f.Detail)
		}
		b.WriteByte('\n')
		if f.Consequence != "" {
			fmt.Fprintf(&b, "         so: %s\n", f.Consequence)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is an error when something that is needed does not work.
func verdict(all []doctor.Finding) error {
	var failed []string
	for _, f := range all {
		if f.Needed && !f.OK {
			failed = append(failed, f.Check)
		}
	}
	if failed == nil {
		return nil
	}
	return fmt.Errorf("the agent cannot do its work here: %s", strings.Join(failed, ", "))
}
