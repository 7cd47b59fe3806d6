package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// pagesCommand is `weir pages`: what a package holds beside the binary, made from the commands themselves.
func pagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pages FOLDER",
		Short: "write man pages and shell completions of all commands",
		Long: `Writes a man page of each command into FOLDER/man, and completions for bash, zsh and fish into
FOLDER/completions. They are the same each time.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return writePages(c.Root(), args[0]) },
	}
}

func writePages(root *cobra.Command, folder string) error {
	man, completions := filepath.Join(folder, "man"), filepath.Join(folder, "completions")
	for _, dir := range []string{man, completions} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a folder for pages: %w", err)
		}
	}
	root.InitDefaultCompletionCmd()
	root.DisableAutoGenTag = true // no date: pages change when commands do
	header := &doc.GenManHeader{Section: "1", Source: "weir", Manual: "weir", Date: &time.Time{}}
	if err := doc.GenManTree(root, header, man); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	for file, write := range map[string]func(string) error{
		"weir.bash": func(path string) error { return root.GenBashCompletionFileV2(path, true) },
		"_weir":     root.GenZshCompletionFile,
		"weir.fish": func(path string) error { return root.GenFishCompletionFile(path, true) },
	} {
		if err := write(filepath.Join(completions, file)); err != nil {
			return fmt.Errorf("write completions: %w", err)
		}
	}
	return nil
}
