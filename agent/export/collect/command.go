package collect

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/file"
)

// Command is `weir collect`.
func Command() *cobra.Command {
	var listen string
	var secure certs.Options
	var out file.Options
	var opts Options
	c := &cobra.Command{
		Use:   "collect",
		Short: "receive flow records from agents, and write them as JSON lines",
		Long: `Receives what agents send by gRPC, and writes each record once, as a JSON line. An agent is
answered when its records are written. With --tls-ca, agents need a certificate. SIGTERM or
SIGINT ends it in order.

Agents on the way of the same packets each tell of them. With --dedupe, each direction of a
connection is taken from who tells of it first, until he has been silent for that long; what others
tell of it meanwhile is left out, or marked as a duplicate with --dedupe-mark. Choose more than the time
in which agents report a connection that goes on. Agents are told apart by "identity" of their
configuration, else by the addresses that they send from: behind a proxy they need the former.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if opts.Dedupe < 0 || opts.JustMark && opts.Dedupe == 0 {
				return fmt.Errorf("--dedupe: %v; want more than 0, or leave it and --dedupe-mark out", opts.Dedupe)
			}
			sink, err := file.Open(out)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, sink.Close()) }()
			opts.Sink, opts.Log = sink, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if secure != (certs.Options{}) {
				opts.TLS = &secure
			}
			collector, err := New(opts)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			opts.Log.Info("listening", "address", l.Addr().String())
			err = collector.Serve(ctx, l)
			s := collector.Stats()
			opts.Log.Info("ended", "records", s.Records, "repeats", s.Repeats, "duplicates", s.Duplicates, "refused", s.Refused)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", "localhost:2055", "host:port to listen on")
	f.StringVar(&out.Path, "output", "-", `file to append to; "-" is standard output`)
	f.Int64Var(&out.MaxSize, "max-size", 0, "bytes after which the file is renamed and a new one begun; 0: never")
	f.IntVar(&out.Keep, "keep", 5, "how many renamed files are kept")
	f.DurationVar(&opts.Dedupe, "dedupe", 0, "leave out what several agents tell of; so long after one that is silent")
	f.BoolVar(&opts.JustMark, "dedupe-mark", false, "mark it instead")
	f.StringVar(&secure.Cert, "tls-cert", "", "our certificate, in PEM form")
	f.StringVar(&secure.Key, "tls-key", "", "its key")
	f.StringVar(&secure.CA, "tls-ca", "", "authorities that agents' certificates are checked against")
	return c
}
