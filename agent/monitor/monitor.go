// Package monitor serves what watches the agent itself: metrics for Prometheus at /metrics, and probes of
// health at /healthz and /readyz.
//
// Metrics are of the client library of Prometheus, which keeps to the exposition formats and their
// negotiation. They are read from the agent when they are asked for, so that no books are kept
// twice. Their labels come from the configuration and from lists in the code, never from traffic or
// from interfaces that nobody has named: how many series there are is known beforehand.
package monitor

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/export/certs"
)

// Options say where the agent is monitored.
type Options struct {
	// Address is a host:port to listen on; empty: nobody listens. Whoever reaches it may read.
	Address string `yaml:"address"`
	// TLS secures it; with a CA, clients need a certificate.
	TLS *certs.Options `yaml:"tls,omitempty"`
}

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	if o.Address == "" {
		if o.TLS != nil {
			return fmt.Errorf("tls: nobody listens; want an address too")
		}
		return nil
	}
	if _, port, err := net.SplitHostPort(o.Address); err != nil || port == "" {
		return fmt.Errorf("address: %q; want host:port, like localhost:9464", o.Address)
	}
	if o.TLS == nil {
		return nil
	}
	if o.TLS.Cert == "" {
		return fmt.Errorf("tls.cert: is missing; a server needs one, and a key")
	}
	if err := o.TLS.Check(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}

// Agent is what is monitored.
type Agent interface {
	Status() (control.Status, error)
	// Healthy and Ready are nil, or what is wrong. They answer also when the agent hangs.
	Healthy() error
	Ready() error
}

// answerTime is how long an answer may take: a scrape waits for a sweep that is under way.
const answerTime = 30 * time.Second

// Serve listens until stop is called. More collectors may add metrics of their own.
func Serve(o Options, a Agent, more ...prometheus.Collector) (stop func(), err error) {
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	if o.TLS != nil {
		files, err := certs.Read(o.TLS)
		var config *tls.Config
		if err == nil {
			config, err = files.Server("h2", "http/1.1")
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("monitor.%w", err)
		}
		l = tls.NewListener(l, config)
	}
	srv := &http.Server{Handler: Handler(a, more...), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: answerTime, IdleTimeout: 2 * time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with ErrServerClosed
	}()
	return func() {
		_ = srv.Close()
		<-done
	}, nil
}

// Handler answers for an agent.
func Handler(a Agent, more ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(more...)
	registry.MustRegister(newCollector(a), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry,
		promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", probe(a.Healthy))
	mux.HandleFunc("GET /readyz", probe(a.Ready))
	return mux
}

// probe answers 200, or 503 and what is wrong.
func probe(ask func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		text := "ok"
		if err := ask(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			text = err.Error()
		}
		fmt.Fprintln(w, text)
	}
}
