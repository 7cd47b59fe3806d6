package differ

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/sim/result"
)

// judged ends the program with an exit code after everything was said.
type judged struct{ code int }

// Error implements error.
func (j *judged) Error() string { return fmt.Sprintf("exit code %d", j.code) }

// ExitCode is the code to exit with.
func (j *judged) ExitCode() int { return j.code }

// Silent tells that everything has been printed.
func (j *judged) Silent() bool { return true }

// broken says that the harness failed.
func broken(w io.Writer, err error) error {
	fmt.Fprintln(w, "weir:", err)
	return &judged{result.ExitHarness}
}

// VectorsCommand is `weir sim vectors`.
func VectorsCommand() *cobra.Command {
	var update bool
	c := &cobra.Command{
		Use: "vectors [file...]", Short: "send packet vectors through the datapath and the model",
		Long: `Sends the frames of vector files through the datapath, by BPF_PROG_TEST_RUN, and through the
reference model, and compares both with what the files expect. Without files those in the program
are taken. Needs root. Exit codes: 0 good, 1 judged red, 2 bad input, 3 the harness failed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if update && (os.Getenv("CI") != "" || len(args) == 0) {
				return errors.New("--update: wants files, and is refused where CI is set")
			}
			files, err := readVectors(args)
			if err != nil {
				return err
			}
			return runVectors(cmd.OutOrStdout(), files, args, update)
		},
	}
	c.Flags().BoolVar(&update, "update", false,
		"write what is expected into the files, where datapath and model agree")
	return c
}

func readVectors(paths []string) ([]*File, error) {
	if len(paths) == 0 {
		return Vectors()
	}
	var files []*File
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read vectors: %w", err)
		}
		f, err := ParseVectors(p, data)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func runVectors(w io.Writer, files []*File, paths []string, update bool) (err error) {
	d := New()
	defer func() { err = errors.Join(err, d.Close()) }()
	code := result.ExitGood
	for i, f := range files {
		diffs, said, err := d.Judge(f)
		if err != nil {
			return broken(w, err)
		}
		word := "pass"
		switch {
		case update && len(diffs) > 0 && !disagrees(diffs):
			if err := os.WriteFile(paths[i], f.Update(said), 0o644); err != nil {
				return broken(w, err)
			}
			word, diffs = "written", nil
		case len(diffs) > 0:
			word, code = "fail", result.ExitRed
		}
		fmt.Fprintf(w, "%-7s %-24s %3d vectors\n", word,
			strings.TrimSuffix(filepath.Base(f.Name), vectorSuffix), len(f.Vectors))
		if err := result.DiffText(w, diffs); err != nil {
			return err
		}
	}
	if code != result.ExitGood {
		return &judged{code}
	}
	return nil
}

// fuzzFlags are the flags of `weir sim fuzz`.
type fuzzFlags struct {
	fuzz Fuzz
	dir  string
}

// FuzzCommand is `weir sim fuzz`.
func FuzzCommand() *cobra.Command {
	var f fuzzFlags
	c := &cobra.Command{
		Use: "fuzz [capture...]", Short: "send random packets through the datapath and the model",
		Long: `Sends random packets, mutated real ones and disturbed connections through the datapath, by
BPF_PROG_TEST_RUN, and through the reference model, and compares tables, counters and events. The
frames of the vectors and of the given captures (pcap) are what is mutated. A difference is shrunk
and written as a vector, a scenario and a capture. What is drawn depends on the seed alone. Needs
root. Exit codes: 0 no difference, 1 a difference, 2 bad input, 3 the harness failed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.fuzz.Packets <= 0 && f.fuzz.For <= 0 {
				return errors.New("--packets or --for: want a bound")
			}
			var err error
			if f.fuzz.Corpus, err = Corpus(); err != nil {
				return err
			}
			for _, file := range args {
				frames, err := captured(file)
				if err != nil {
					return fmt.Errorf("read %s: %w", file, err)
				}
				f.fuzz.Corpus = append(f.fuzz.Corpus, frames...)
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().Uint64Var(&f.fuzz.Seed, "seed", 1, "draw by this number")
	c.Flags().IntVar(&f.fuzz.Packets, "packets", 100_000, "send so many packets; 0: no bound")
	c.Flags().DurationVar(&f.fuzz.For, "for", 0, "go on for so long at most")
	c.Flags().StringVar(&f.dir, "out", "out/fuzz", "write what is found into this folder")
	return c
}

func (f *fuzzFlags) run(ctx context.Context, out, status io.Writer) (err error) {
	d := New()
	defer func() { err = errors.Join(err, d.Close()) }()
	begin := time.Now()
	f.fuzz.Progress = func(packets int) { fmt.Fprintf(status, "\r%d packets", packets) }
	found, packets, err := f.fuzz.Run(ctx, d)
	fmt.Fprint(status, "\r\x1b[K")
	if err != nil {
		return broken(out, err)
	}
	took := time.Since(begin)
	fmt.Fprintf(out, "seed %d: %d packets in %v, %.0f a second\n", f.fuzz.Seed, packets,
		took.Round(time.Millisecond), float64(packets)/took.Seconds())
	if found == nil {
		return nil
	}
	files, err := found.Write(f.dir)
	if err != nil {
		return broken(out, err)
	}
	fmt.Fprintf(out, "case %d differs: %s\n", found.Number, strings.Join(files, " "))
	if err := result.DiffText(out, []result.Difference{found.difference()}); err != nil {
		return err
	}
	return &judged{result.ExitRed}
}

// captured reads the frames of a capture.
func captured(file string) ([][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readCapture(f)
}
