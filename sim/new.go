package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/author"
	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

func newCommand() *cobra.Command {
	var template, from string
	c := &cobra.Command{
		Use: "new NAME", Short: "write a new scenario, from a template or a capture",
		Long: `Writes a scenario that runs as it is, with comments: scenarios/NAME.yaml, or the file NAME when
it ends in .yaml. A file that is there already is not touched.

From a capture (pcap or pcapng, Ethernet or raw IP) addresses become hosts, clean TCP and UDP
becomes scripts, and other packets are written layer by layer. What cannot be told in a scenario is
listed.

Templates: ` + strings.Join(author.Templates(), ", ") + ".",
		Example: `  weir sim new tcp/my-scenario
  weir sim new --template router l3/my-router
  weir sim new --from bug.pcapng tcp/the-bug`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := author.File(args[0])
			if err != nil {
				return err
			}
			if from != "" && cmd.Flags().Changed("template") {
				return errors.New("--from and --template: want one of them")
			}
			text, notes, err := newText(file, template, from)
			if err != nil {
				return err
			}
			if err := author.Write(file, text); err != nil {
				return err
			}
			return told(cmd.OutOrStdout(), file, notes)
		},
	}
	c.Flags().StringVar(&template, "template", "tcp", "what to begin with")
	c.Flags().StringVar(&from, "from", "", "make it from this `capture`")
	return c
}

// newText is a scenario, and what is to be told about it.
func newText(file, template, from string) (text []byte, notes []string, err error) {
	if from == "" {
		text, err = author.Template(template)
		return text, nil, err
	}
	f, err := os.Open(from)
	if err != nil {
		return nil, nil, fmt.Errorf("read the capture: %w", err)
	}
	defer f.Close()
	made, err := author.FromCapture(spec.Name(file), f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", from, err)
	}
	notes = append(notes, fmt.Sprintf("%d of %d frames are taken over", made.Taken, made.Frames))
	return made.Text, append(notes, made.Notes...), nil
}

// told says what was written, and what comes next.
func told(w io.Writer, file string, notes []string) error {
	fmt.Fprintln(w, "wrote", file)
	for _, n := range notes {
		fmt.Fprintln(w, "  "+result.Printable(n))
	}
	_, err := fmt.Fprintf(w, "next: weir sim explain %s; sudo weir sim golden update %s\n", file, file)
	return err
}
