// Package control is the agent's local control: HTTP with JSON over a unix socket that only the
// agent's user may open.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/nat"
	"github.com/weirnet/weir/bpf"
)

// DefaultSocket is where `weir ct` looks for the agent.
const DefaultSocket = "/run/weir/control.sock"

// HookCounters is what became of the packets at one hook.
type HookCounters struct {
	Hook flow.Hook `json:"hook"`
	Mode string    `json:"mode"` // tcx, tc, netkit, or chain: a stage there
	// Gone says that it was taken off: its interface is gone, or not watched any more.
	Gone bool `json:"gone,omitempty"`
	bpf.Counters
}

// FormerHooks is the name of the interface under which hooks that were taken off are summed up, once nothing
// names them any more.
const FormerHooks = "former-hooks"

// Counters is the agent's ledger.
type Counters struct {
	Hooks    []HookCounters `json:"hooks"`
	Reported bpf.Count      `json:"reported"` // sum of all records since the agent started
	NoHook   bpf.Count      `json:"no_hook"`  // packets from hooks that are not configured
	// InsertErrors is how many connections the kernel has refused to put into a table with room, since
	// the tables have their size. Their packets were reported by themselves.
	InsertErrors uint64 `json:"insert_errors"`
	// Sinks is what became of the records; nil when the agent was lent a sink.
	Sinks []export.Stats `json:"sinks,omitempty"`
	// NAT is what the feature nat holds and has lost; nil when it does not run.
	NAT *nat.Stats `json:"nat,omitempty"`
	// Labels is what became of records that were labelled; nil without labels.
	Labels *labeler.Stats `json:"labels,omitempty"`
}

// Translation is a connection whose addresses are translated, as its initiator names it on each side.
type Translation struct {
	Namespace string   `json:"namespace,omitempty"` // in which it is; "" is the agent's own
	Protocol  uint8    `json:"protocol"`
	Before    flow.NAT `json:"before"`
	After     flow.NAT `json:"after"`
}

// Agent is what the control socket serves.
type Agent interface {
	Translations() ([]Translation, error)
	Tables
	Counters() (Counters, error)
	Status() (Status, error)
	Sweep() error
	Resize(entries int) error
	SetClock(ns int64) error
}

// Route is something else that is served on the socket: a path, and all below it.
type Route struct {
	Path    string // like /v1/chains
	Handler http.Handler
}

// Serve listens on a unix socket until stop is called. A socket that a dead agent has left is
// replaced; one that answers is an error.
func Serve(path string, a Agent, more ...Route) (stop func(), err error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	mux := handler(a)
	for _, r := range more {
		mux.Handle(r.Path, r.Handler)
		mux.Handle(r.Path+"/", r.Handler)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
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

// ErrTaken is the error for a socket on which another agent answers.
var ErrTaken = errors.New("another agent answers there")

// Answers tells whether somebody answers on a socket.
func Answers(path string) bool {
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func listen(path string) (net.Listener, error) {
	if Answers(path) {
		return nil, ErrTaken
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// removeSocket removes what a dead agent has left, and nothing else.
func removeSocket(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	return os.Remove(path)
}

func handler(a Agent) *http.ServeMux {
	mux := http.NewServeMux()
	tables(mux, a)
	mux.HandleFunc("GET /v1/counters", func(w http.ResponseWriter, _ *http.Request) {
		c, err := a.Counters()
		reply(w, c, err)
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		s, err := a.Status()
		reply(w, s, err)
	})
	mux.HandleFunc("GET /v1/translations", func(w http.ResponseWriter, _ *http.Request) {
		all, err := a.Translations()
		reply(w, all, err)
	})
	mux.HandleFunc("POST /v1/sweep", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, a.Sweep())
	})
	mux.HandleFunc("POST /v1/resize", func(w http.ResponseWriter, r *http.Request) {
		in, ok := read[resizeOrder](w, r, `{"entries": N}`)
		if ok {
			reply(w, struct{}{}, a.Resize(in.Entries))
		}
	})
	mux.HandleFunc("POST /v1/clock", func(w http.ResponseWriter, r *http.Request) {
		in, ok := read[clockOrder](w, r, `{"now_ns": N}`)
		if ok {
			reply(w, struct{}{}, a.SetClock(in.Now))
		}
	})
	profiles(mux)
	return mux
}

// profiles serves what `go tool pprof` reads. It is only here, where nobody but the agent's user
// comes: a profile tells what the agent holds, and taking one costs time.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// What clients ask for.
type (
	resizeOrder struct {
		Entries int `json:"entries"`
	}
	clockOrder struct {
		Now int64 `json:"now_ns"`
	}
)

// maxOrder is how many bytes a client's order may have: a list of thousands of addresses has room.
const maxOrder = 1 << 20

// read reads what a client asks for; what is wrong with it is answered here.
func read[T any](w http.ResponseWriter, r *http.Request, want string) (in T, ok bool) {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		http.Error(w, "want "+want+": "+err.Error(), http.StatusBadRequest)
		return in, false
	}
	return in, true
}

func reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nothing to do
}

// Client speaks to an agent.
type Client struct{ http http.Client }

// Dial returns a client; it connects with each call.
func Dial(socket string) *Client {
	var d net.Dialer
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Counters reads the agent's ledger.
func (c *Client) Counters(ctx context.Context) (Counters, error) {
	var out Counters
	return out, c.call(ctx, "GET", "/v1/counters", nil, &out)
}

// Translations lists the address translations that the agent knows.
func (c *Client) Translations(ctx context.Context) ([]Translation, error) {
	var all []Translation
	return all, c.call(ctx, "GET", "/v1/translations", nil, &all)
}

// Sweep makes the agent drain its tables now.
func (c *Client) Sweep(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/sweep", nil, nil)
}

// Resize gives each of the agent's connection tables room for so many entries; connections go on.
func (c *Client) Resize(ctx context.Context, entries int) error {
	return c.call(ctx, "POST", "/v1/resize", resizeOrder{entries}, nil)
}

// SetClock moves the agent's virtual clock to ns.
func (c *Client) SetClock(ctx context.Context, ns int64) error {
	return c.call(ctx, "POST", "/v1/clock", clockOrder{ns}, nil)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.ask(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer answer.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// ask sends a request, and returns the answer to it; the caller closes it.
func (c *Client) ask(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://weir"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", plain(err))
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, fmt.Errorf("the agent answers: %s", bytes.TrimSpace(text))
	}
	return resp.Body, nil
}

// plain leaves out the URL of a failed request, which is the same for every agent.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no agent listens; its configuration names the socket (control): %w", err)
	}
	return err
}
