package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
)

func getCommand(opts *options) *cobra.Command {
	var k chain.Key
	var output string
	c := &cobra.Command{
		Use:   "get INTERFACE HOOK",
		Short: "tell all about a chain: what packets meet at its hook, in their order",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkOutput(output); err != nil {
				return err
			}
			if k.Hook, err = hook.ParseKind(args[1]); err != nil {
				return err
			}
			k.Interface = args[0]
			all, err := list(cmd.Context(), opts)
			if err != nil {
				return err
			}
			s, ok := all[k]
			if !ok {
				return &chain.ChainError{Key: k, Err: chain.ErrUnknown}
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), s)
			}
			return writeChain(cmd.OutOrStdout(), &s)
		},
	}
	c.Flags().StringVar(&k.Namespace, "namespace", "", "network namespace, by name or path")
	outputFlag(c, &output)
	return c
}

// list asks for all chains.
func list(ctx context.Context, opts *options) (map[chain.Key]chain.Status, error) {
	all := map[chain.Key]chain.Status{}
	err := with(ctx, opts, func(m operator) error {
		listed, err := m.List()
		for i := range listed {
			all[listed[i].Key] = listed[i]
		}
		return err
	})
	return all, err
}

// writeChain writes what a packet meets.
func writeChain(w io.Writer, s *chain.Status) error {
	_, err := fmt.Fprintf(w, "%s (%s): generation %d, %s\n", s.Key, orNone(s.Backend), s.Generation, stateOf(s))
	foreign := func(programs []hook.Program) {
		for _, p := range programs {
			_, e := fmt.Fprintf(w, "  another owner's %s (program %d)\n", orNone(p.Name), p.ID)
			err = errors.Join(err, e)
		}
	}
	foreign(s.Before)
	for i := range s.Members {
		m := &s.Members[i]
		what := fmt.Sprintf("program %d", m.Program)
		if m.Disabled {
			what = "disabled"
		} else if m.Program == 0 {
			what = "does not run"
		}
		_, e := fmt.Fprintf(w, "  %s: priority %d, %s, %s\n", m.Name, m.Priority, what, origin(m))
		err = errors.Join(err, e)
		if m.Process != nil {
			err = errors.Join(err, writeProcess(w, m.Process))
		}
	}
	foreign(s.After)
	return err
}

// origin is what a member is made of.
func origin(m *chain.MemberStatus) string {
	if m.Stage != "" {
		return "weir's stage " + m.Stage
	}
	return m.Object
}

// stateOf is the state of a chain in words.
func stateOf(s *chain.Status) string {
	switch {
	case s.Error != "":
		return s.Error
	case s.Drift != chain.None:
		return string(s.Drift)
	}
	return "as applied"
}

// watchEvery is how often watch looks.
const watchEvery = time.Second

func watchCommand(opts *options) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "watch",
		Short: "tell what becomes of the chains, as it happens",
		Long: `Lists the chains, and then each of them again when something about it has changed, whoever has
done it. It looks once a second, and ends when it is interrupted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return watch(cmd.Context(), opts, &watcher{out: cmd.OutOrStdout(), asJSON: output == "json"})
		},
	}
	outputFlag(c, &output)
	return c
}

func watch(ctx context.Context, opts *options, w *watcher) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		all, err := list(ctx, opts)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, chain.ErrBusy): // a short while, as when another weir applies chains
		case err != nil:
			return err
		default:
			if err := w.changed(all); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// watcher tells of chains what it has not told before.
type watcher struct {
	out    io.Writer
	asJSON bool
	known  map[chain.Key]chain.Status
}

func (w *watcher) changed(all map[chain.Key]chain.Status) error {
	for _, k := range sortedKeys(all) {
		s := all[k]
		if before, ok := w.known[k]; ok && reflect.DeepEqual(before, s) {
			continue
		}
		if err := w.tell(&s); err != nil {
			return err
		}
	}
	for _, k := range sortedKeys(w.known) {
		if _, ok := all[k]; ok {
			continue
		}
		if err := w.tell(&chain.Status{Key: k, Error: "deleted", Members: []chain.MemberStatus{}}); err != nil {
			return err
		}
	}
	w.known = all
	return nil
}

func (w *watcher) tell(s *chain.Status) error {
	if w.asJSON {
		return json.NewEncoder(w.out).Encode(s)
	}
	return writeChain(w.out, s)
}

func sortedKeys(all map[chain.Key]chain.Status) []chain.Key {
	return slices.SortedFunc(maps.Keys(all), func(a, b chain.Key) int { return strings.Compare(a.String(), b.String()) })
}
