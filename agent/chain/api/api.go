// Package api serves a host's chains: HTTP with JSON, to be put behind a socket that only its owner
// may open.
//
//	GET  /v1/chains         -> Chains
//	POST /v1/chains/plan    Order    -> Answer; nothing is changed
//	POST /v1/chains/apply   Order    -> Answer
//	POST /v1/chains/delete  Deletion -> Answer
//	POST /v1/chains/start   ProcessOf -> Answer; the process of a member
//	POST /v1/chains/stop    ProcessOf -> Answer
//
// Every answer has the revision of the chains, also as its ETag. A request with If-Match is refused when
// the revision is another: somebody else has changed chains since.
//
// A request that fails has changed nothing, unless its error says so. Its status is 400 when it cannot be read, 413 when it is too
// large, 404 for a chain that there is not, 409 when somebody else's program stands in the way, 412
// when If-Match does not match, 422 when a chain cannot be made as it was asked for, and 500 when
// this host is to blame.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/process"
)

// Path is the root of the API.
const Path = "/v1/chains"

// maxBody is how large a request may be, in bytes. 30 members at each hook of 100 interfaces have less.
const maxBody = 4 << 20

// Order asks for chains.
type Order struct {
	chain.Spec
	chain.ApplyOptions
}

// Deletion asks for the end of chains.
type Deletion struct {
	Chains []chain.Key `json:"chains"`
	Force  bool        `json:"force,omitempty"`
}

// ProcessOf names the process of a member.
type ProcessOf struct {
	chain.Key
	Member string `json:"member"`
}

// Chains are the chains of a host.
type Chains struct {
	Revision uint64         `json:"revision"`
	Chains   []chain.Status `json:"chains"`
}

// Answer says what has become of a request.
type Answer struct {
	Revision uint64 `json:"revision"` // after it
	// Error is why it failed, "" when it did not.
	Error string `json:"error,omitempty"`
	Items []Item `json:"items"`
}

// Item says what has become of a chain.
type Item struct {
	chain.Key
	Result Result        `json:"result"`
	Change *chain.Change `json:"change,omitempty"`
	Error  string        `json:"error,omitempty"`
}

// Result is what has become of a chain.
type Result string

// The results.
const (
	Changed   Result = "changed"
	Unchanged Result = "unchanged" // it was as it shall be
	Planned   Result = "planned"   // it would be changed
	Failed    Result = "failed"    // it is as it was, see the error
	Kept      Result = "kept"      // it is as it was, because another one failed
)

// Server serves a manager. It is safe for concurrent use; one request is handled at a time.
type Server struct {
	mux     *http.ServeMux
	mu      sync.Mutex // guards manager, and closed
	manager *chain.Manager
	closed  bool
}

// New makes a server. The manager is its own from now on.
func New(m *chain.Manager) *Server {
	s := &Server{mux: http.NewServeMux(), manager: m}
	s.mux.HandleFunc("GET "+Path, s.list)
	s.mux.HandleFunc("POST "+Path+"/plan", s.plan)
	s.mux.HandleFunc("POST "+Path+"/apply", s.apply)
	s.mux.HandleFunc("POST "+Path+"/delete", s.delete)
	s.mux.HandleFunc("POST "+Path+"/start", s.process((*chain.Manager).Start))
	s.mux.HandleFunc("POST "+Path+"/stop", s.process((*chain.Manager).Stop))
	return s
}

// ServeHTTP answers a request for chains.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Do calls fn with the manager, when no request is handled.
func (s *Server) Do(fn func(*chain.Manager) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	return fn(s.manager)
}

// Close waits for a request that is handled and closes the manager; chains stay in place.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.manager.Close()
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := Chains{s.manager.Revision(), s.manager.List()}
	write(w, http.StatusOK, all.Revision, all)
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	handle(s, w, r, func(o *Order) ([]chain.Key, func() ([]Item, error)) {
		return o.keys(), func() ([]Item, error) {
			changes, err := s.manager.Plan(&o.Spec, o.ApplyOptions)
			return items(changes, Planned), err
		}
	})
}

func (s *Server) apply(w http.ResponseWriter, r *http.Request) {
	handle(s, w, r, func(o *Order) ([]chain.Key, func() ([]Item, error)) {
		return o.keys(), func() ([]Item, error) {
			changes, err := s.manager.Apply(&o.Spec, o.ApplyOptions)
			return items(changes, Changed), err
		}
	})
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request) {
	handle(s, w, r, func(d *Deletion) ([]chain.Key, func() ([]Item, error)) {
		return d.Chains, func() ([]Item, error) {
			changes, err := s.manager.Delete(chain.ApplyOptions{Force: d.Force}, d.Chains...)
			return items(changes, Changed), err
		}
	})
}

// process starts or stops the process of a member.
func (s *Server) process(do func(*chain.Manager, chain.Key, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		handle(s, w, r, func(in *ProcessOf) ([]chain.Key, func() ([]Item, error)) {
			return []chain.Key{in.Key}, func() ([]Item, error) {
				return []Item{{Key: in.Key, Result: Changed}}, do(s.manager, in.Key, in.Member)
			}
		})
	}
}

func (o *Order) keys() (all []chain.Key) {
	for i := range o.Chains {
		all = append(all, o.Chains[i].Key)
	}
	return all
}

// handle reads a request, does what it asks for, and tells what has become of the chains that it names.
func handle[T any](s *Server, w http.ResponseWriter, r *http.Request, what func(*T) ([]chain.Key, func() ([]Item, error))) {
	var in T
	if err := Read(w, r, &in); err != nil {
		s.refuse(w, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.answer(w, errClosed, nil)
		return
	}
	if err := match(r, s.manager.Revision()); err != nil {
		s.answer(w, err, nil)
		return
	}
	keys, do := what(&in)
	done, err := do()
	if err != nil {
		done = failed(err, keys)
	}
	s.answer(w, err, done)
}

// refuse answers a request that was not understood.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer(w, err, nil)
}

func (s *Server) answer(w http.ResponseWriter, err error, items []Item) {
	a := Answer{Revision: s.manager.Revision(), Items: items}
	if items == nil {
		a.Items = []Item{}
	}
	if err != nil {
		a.Error = err.Error()
	}
	write(w, Status(err), a.Revision, a)
}

func items(changes []chain.Change, done Result) (all []Item) {
	for i := range changes {
		c := &changes[i]
		item := Item{Key: c.Key, Result: done, Change: c}
		if c.Unchanged() {
			item.Result = Unchanged
		}
		all = append(all, item)
	}
	return all
}

// failed says of each chain whether it is the one that failed.
func failed(err error, keys []chain.Key) (all []Item) {
	reasons := chainErrors(err)
	for _, k := range keys {
		item := Item{Key: k, Result: Kept}
		if reason := reasons[k]; reason != nil {
			item.Result, item.Error = Failed, reason.Error()
		}
		all = append(all, item)
	}
	return all
}

// chainErrors are the errors of chains in a tree of errors.
func chainErrors(err error) map[chain.Key]error {
	all := map[chain.Key]error{}
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) {
		case *chain.ChainError:
			all[e.Key] = e.Err
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err)
			}
		}
	}
	walk(err)
	return all
}

// The errors of requests.
var (
	errBad    = errors.New("the request cannot be read")
	errMatch  = errors.New("the chains have changed since")
	errClosed = errors.New("the agent is ending")
)

// Read reads a request, strictly.
func Read(w http.ResponseWriter, r *http.Request, in any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		return fmt.Errorf("%w: %w", errBad, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: there is more after its end", errBad)
	}
	return nil
}

// match checks the header If-Match.
func match(r *http.Request, revision uint64) error {
	want := r.Header.Get("If-Match")
	if want == "" || want == "*" {
		return nil
	}
	for tag := range strings.SplitSeq(want, ",") {
		if strings.TrimSpace(tag) == etag(revision) {
			return nil
		}
	}
	return fmt.Errorf("%w: their revision is %s, not %s", errMatch, etag(revision), want)
}

func etag(revision uint64) string { return strconv.Quote(strconv.FormatUint(revision, 10)) }

// Status is the status of an answer to a request that ends with an error, or with none.
func Status(err error) int {
	var tooLarge *http.MaxBytesError
	var field *chain.FieldError
	var one *chain.ChainError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errBad):
		return http.StatusBadRequest
	case errors.Is(err, errClosed):
		return http.StatusServiceUnavailable
	case errors.Is(err, errMatch):
		return http.StatusPreconditionFailed
	case errors.Is(err, chain.ErrUnknown), errors.Is(err, process.ErrUnknown):
		return http.StatusNotFound
	case errors.Is(err, chain.ErrReplaced), errors.Is(err, hook.ErrChanged):
		return http.StatusConflict
	case errors.As(err, &field), errors.As(err, &one):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

func write(w http.ResponseWriter, status int, revision uint64, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", etag(revision))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nothing to do
}
