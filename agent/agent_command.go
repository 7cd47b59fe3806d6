package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/netobserv"
	"github.com/weirnet/weir/agent/privileges"
)

// source is where a configuration comes from.
type source struct {
	path string
	// given says that the user has named the file; else it may be missing, if the environment tells enough.
	given   bool
	compat  string
	environ []string
	notes   []string // on what of compat is different here
	// names are interfaces that the command line names, instead of those of the configuration.
	names []string
}

const (
	defaultPath     = "weir.yaml"
	compatNetObserv = "netobserv"
)

func (s *source) on(c *cobra.Command) {
	c.Flags().StringVar(&s.path, "config", defaultPath, "configuration file")
	c.Flags().StringVar(&s.compat, "compat", "", "netobserv: take the environment variables of the NetObserv agent, too")
}

// read reads the configuration; c is the command whose flags say from where.
func (s *source) read(c *cobra.Command) (Config, error) {
	s.given, s.environ = c.Flags().Changed("config"), os.Environ()
	return s.load()
}

func (s *source) load() (Config, error) {
	environ := s.environ
	switch s.compat {
	case "":
	case compatNetObserv:
		theirs, notes, err := netobserv.Translate(environ)
		if err != nil {
			return Config{}, fmt.Errorf("--compat=%s: %w", s.compat, err)
		}
		environ, s.notes = slices.Concat(theirs, environ), notes // ours beat theirs
	default:
		return Config{}, fmt.Errorf("--compat=%s: want %s", s.compat, compatNetObserv)
	}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) && !s.given {
		data, err = nil, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return parseConfig(s.path, data, environ, s.override)
}

// override puts what the command line says in place of what the configuration says.
func (s *source) override(c *Config) {
	if len(s.names) == 0 {
		return
	}
	c.Interfaces = nil
	for _, name := range s.names {
		c.Interfaces = append(c.Interfaces, Interface{Name: name})
	}
	if c.Control == "" {
		c.Control = control.DefaultSocket
	}
}

// Command is `weir agent`.
func Command() *cobra.Command {
	var from source
	c := &cobra.Command{
		Use:   "agent [INTERFACE...]",
		Short: "watch interfaces and report flows",
		Long: `Watches the interfaces of its configuration, reports flows to its sinks, and serves its state on
a unix socket. Every key of the configuration file is also an environment variable, which
beats the file: "weir agent config --help" lists them.

Interfaces on the command line are watched instead of those of the configuration, which need not
exist then: "weir agent eth0" prints the flows of eth0 as JSON lines. The agent also listens on
` + control.DefaultSocket + ` then, if no other socket is configured, so that "weir flows" and
"weir status" find it.

SIGTERM or SIGINT ends it in order: everything that was counted is reported first. SIGHUP makes
it read its configuration again, and change what can change while it runs; when a change
needs a new start, nothing is changed, and the log says which keys.

Once it runs, it gives up all capabilities but CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and CAP_SYS_ADMIN where
it watches interfaces in other network namespaces.`,
		Example: "  weir agent eth0\n  weir agent --config /etc/weir/weir.yaml",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			from.names = names
			cfg, err := from.read(cmd)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			var level slog.LevelVar
			log := cfg.Log.logger(cmd.ErrOrStderr(), &level)
			for _, note := range from.notes {
				log.Info("compat", "note", note)
			}
			a, err := New(cfg, Options{Log: log, Level: &level})
			if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
				return fmt.Errorf("%w; it needs root, or capabilities: \"weir doctor\" tells which", err)
			}
			if err != nil {
				return err
			}
			if err := privileges.Drop(append(privileges.Keep(cfg.namespaces()), cfg.processes().Needs()...)); err != nil {
				return errors.Join(err, a.stop())
			}
			defer a.reloadOnHangup(&from)()
			return a.Run(ctx)
		},
	}
	from.on(c)
	c.AddCommand(featuresCommand(), configCommand())
	return c
}

// reloadOnHangup reads the configuration again at each SIGHUP, until the returned function is called.
func (a *Agent) reloadOnHangup(from *source) (stop func()) {
	hangups, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				a.reloadFrom(from)
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		cancel()
		<-ended
	}
}

func (a *Agent) reloadFrom(from *source) {
	cfg, err := from.load()
	var changed []string
	if err == nil {
		changed, err = a.Reload(cfg)
	}
	if err != nil {
		a.log.Error("reload: nothing is changed", "error", err)
		return
	}
	a.log.Info("reload", "changed", changed)
}
