package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/weirnet/weir/agent/conntrack"
)

// Tables are the connection tables of an agent.
type Tables interface {
	// Select lists the connections that a filter chooses.
	Select(conntrack.Filter) ([]conntrack.Entry, error)
	// Collect removes connections, and reports them.
	Collect(conntrack.Collection) (conntrack.Collected, error)
	// TableStats tells how the tables are, with a histogram of ages if that is asked for.
	TableStats(ages bool) (conntrack.Stats, error)
	// Zones lists the zones that there are.
	Zones() ([]Zone, error)
	// Observe has fn called for connections that have ended, until cancel is called. It must not block.
	Observe(fn func(conntrack.Event)) (cancel func())
}

// Zone keeps networks apart whose addresses overlap.
type Zone struct {
	Number uint16 `json:"zone"`
	// Interfaces that are watched are in it, as namespace/name; none is left of one whose connections have
	// yet to end.
	Interfaces  []string `json:"interfaces"`
	Connections int      `json:"connections"`
}

// End is a line of the stream of ends: an event, or how many found no room on their way to a slow reader.
type End struct {
	*conntrack.Event
	Missed uint64 `json:"missed,omitempty"`
}

func tables(mux *http.ServeMux, a Tables) {
	mux.HandleFunc("GET /v1/connections", func(w http.ResponseWriter, _ *http.Request) {
		all, err := a.Select(conntrack.Filter{})
		reply(w, all, err)
	})
	mux.HandleFunc("POST /v1/connections/select", func(w http.ResponseWriter, r *http.Request) {
		f, ok := read[conntrack.Filter](w, r, "a filter")
		if ok && valid(w, f.Check()) {
			all, err := a.Select(f)
			reply(w, all, err)
		}
	})
	mux.HandleFunc("POST /v1/connections/collect", func(w http.ResponseWriter, r *http.Request) {
		c, ok := read[conntrack.Collection](w, r, "a collection")
		if ok && valid(w, c.Check()) {
			done, err := a.Collect(c)
			reply(w, done, err)
		}
	})
	mux.HandleFunc("GET /v1/table", func(w http.ResponseWriter, r *http.Request) {
		s, err := a.TableStats(r.URL.Query().Has("ages"))
		reply(w, s, err)
	})
	mux.HandleFunc("GET /v1/zones", func(w http.ResponseWriter, _ *http.Request) {
		all, err := a.Zones()
		reply(w, all, err)
	})
	mux.HandleFunc("GET /v1/ends", func(w http.ResponseWriter, r *http.Request) { streamEnds(w, r, a) })
}

func valid(w http.ResponseWriter, err error) bool {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

// endsRoom is how many events wait for a reader of the stream.
const endsRoom = 8192

// waiting are events on their way to a reader.
type waiting struct {
	mu     sync.Mutex
	events []conntrack.Event
	missed uint64
	news   chan struct{}
}

func (q *waiting) put(e conntrack.Event) {
	q.mu.Lock()
	if len(q.events) < endsRoom {
		q.events = append(q.events, e)
	} else {
		q.missed++
	}
	q.mu.Unlock()
	select {
	case q.news <- struct{}{}:
	default: // the reader has yet to come for what was there before
	}
}

func (q *waiting) take() (events []conntrack.Event, missed uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events, missed = q.events, q.missed
	q.events, q.missed = nil, 0
	return events, missed
}

// streamEnds writes a line for each connection that ends, until the reader goes.
func streamEnds(w http.ResponseWriter, r *http.Request, a Tables) {
	_, _ = io.Copy(io.Discard, r.Body) // only behind it is it seen that the reader goes
	q := &waiting{news: make(chan struct{}, 1)}
	cancel := a.Observe(q.put)
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for {
		if out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-q.news:
		}
		events, missed := q.take()
		for i := range events {
			if enc.Encode(End{Event: &events[i]}) != nil {
				return
			}
		}
		if missed > 0 && enc.Encode(End{Missed: missed}) != nil {
			return
		}
	}
}

// Connections lists the agent's connection table.
func (c *Client) Connections(ctx context.Context) ([]conntrack.Entry, error) {
	var all []conntrack.Entry
	return all, c.call(ctx, "GET", "/v1/connections", nil, &all)
}

// Select shows the connections that a filter chooses, one after the other.
func (c *Client) Select(ctx context.Context, f conntrack.Filter, show func(*conntrack.Entry) error) error {
	answer, err := c.ask(ctx, "POST", "/v1/connections/select", f)
	if err != nil {
		return err
	}
	defer answer.Close()
	dec := json.NewDecoder(answer)
	if _, err := dec.Token(); err != nil { // the list's bracket
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	for dec.More() {
		var e conntrack.Entry
		if err := dec.Decode(&e); err != nil {
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		if err := show(&e); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// Collect makes the agent remove connections, and report them.
func (c *Client) Collect(ctx context.Context, order conntrack.Collection) (conntrack.Collected, error) {
	var out conntrack.Collected
	return out, c.call(ctx, "POST", "/v1/connections/collect", order, &out)
}

// TableStats asks how the tables are; ages cost a walk through them.
func (c *Client) TableStats(ctx context.Context, ages bool) (conntrack.Stats, error) {
	path := "/v1/table"
	if ages {
		path += "?ages"
	}
	var out conntrack.Stats
	return out, c.call(ctx, "GET", path, nil, &out)
}

// Zones lists the agent's zones.
func (c *Client) Zones(ctx context.Context) ([]Zone, error) {
	var all []Zone
	return all, c.call(ctx, "GET", "/v1/zones", nil, &all)
}

// Ends shows connections that end from now on, until the context or the agent ends. Once it can show the
// first one it calls ready.
func (c *Client) Ends(ctx context.Context, ready func(), show func(End) error) error {
	answer, err := c.ask(ctx, "GET", "/v1/ends", nil)
	if err != nil {
		return err
	}
	defer answer.Close()
	ready()
	dec := json.NewDecoder(answer)
	for {
		var e End
		switch err := dec.Decode(&e); {
		case ctx.Err() != nil, errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the agent's answer: %w", err)
		}
		if err := show(e); err != nil {
			return err
		}
	}
}
