package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/settings"
)

// configCommand is `weir agent config`.
func configCommand() *cobra.Command {
	var from source
	var schema, check, show bool
	c := &cobra.Command{
		Use:   "config",
		Short: "explain, check and show the agent's configuration",
		Long: `With --check, reads the configuration as the agent would, and says what is wrong with it;
with --show, prints what comes of file, environment and defaults; with --schema, prints a
JSON Schema of the file, for editors.

The keys, what they stand for, and the environment variables that set them. Values of
variables are YAML, plain lists also like a,b; N is the index of an item, from 0.

` + keyList(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case schema:
				return writeJSON(cmd.OutOrStdout(), settings.Schema("weir agent", DefaultConfig(), docs()))
			case !check && !show:
				return errors.New("want --check, --show or --schema; --help lists the keys")
			}
			cfg, err := from.read(cmd)
			if err != nil || check {
				return err
			}
			text, err := yaml.Marshal(cfg)
			if err != nil {
				return fmt.Errorf("write the configuration: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().BoolVar(&schema, "schema", false, "print a JSON Schema of the file")
	c.Flags().BoolVar(&check, "check", false, "say what is wrong, or nothing")
	c.Flags().BoolVar(&show, "show", false, "print the configuration with all defaults")
	c.MarkFlagsMutuallyExclusive("schema", "check", "show")
	from.on(c)
	return c
}

// keyList describes all keys, for people.
func keyList() string {
	var b strings.Builder
	for _, k := range Keys() {
		fmt.Fprintf(&b, "%s: %s", k.Path, k.Type)
		if k.Default != "" {
			fmt.Fprintf(&b, ", %s by default", k.Default)
		}
		if reloadable(k.Path) {
			b.WriteString(", reloaded")
		}
		fmt.Fprintf(&b, " (%s)\n%s", k.Env, wrap(k.Doc, "    ", 92))
	}
	return b.String()
}

// wrap breaks a text into lines of a width, indentation included.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line) > len(indent) && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += word
	}
	if len(line) > len(indent) {
		b.WriteString(line + "\n")
	}
	return b.String()
}
