package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// server speaks as much of the API as a reflector needs: lists in pages, watches from a version,
// bookmarks, expired versions, broken connections.
type server struct {
	*httptest.Server
	// stream has it serve initial objects through a watch, as servers do since 1.34.
	stream bool

	mu      sync.Mutex
	version int
	objects map[string]map[string]body // by resource, then by "namespace/name"
	log     []change
	oldest  int             // changes up to here are forgotten
	wake    chan struct{}   // closed at each change
	down    bool            // answers nothing but errors
	drop    chan struct{}   // closed to end all watches
	refused map[string]bool // resources that may not be read
	lists   map[string]int
	accepts map[string]string
}

type body map[string]any

type change struct {
	version        int
	resource, kind string
	object         body
}

func newServer(t *testing.T) *server {
	s := &server{objects: map[string]map[string]body{}, wake: make(chan struct{}), drop: make(chan struct{}),
		refused: map[string]bool{}, lists: map[string]int{}, accepts: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.disconnect()
		s.Close()
	})
	return s
}

// resources are the API's, with their kinds.
var resources = map[string]struct{ version, kind string }{
	"pods": {"v1", "Pod"}, "nodes": {"v1", "Node"}, "services": {"v1", "Service"},
	"namespaces": {"v1", "Namespace"}, "endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"},
	"replicasets": {"apps/v1", "ReplicaSet"}, "jobs": {"batch/v1", "Job"},
}

// put creates or changes an object, given as JSON.
func (s *server) put(resource, text string) {
	var o body
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(fmt.Sprintf("%v in %s", err, text))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[resource] == nil {
		s.objects[resource] = map[string]body{}
	}
	what := "ADDED"
	if _, ok := s.objects[resource][o.key()]; ok {
		what = "MODIFIED"
	}
	s.changed(resource, what, o)
	s.objects[resource][o.key()] = o
}

func (s *server) remove(resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[resource][key]
	delete(s.objects[resource], key)
	gone := body{}
	for k, v := range o {
		gone[k] = v
	}
	s.changed(resource, "DELETED", gone)
}

func (s *server) changed(resource, what string, o body) {
	s.version++
	meta := map[string]any{}
	for k, v := range o["metadata"].(map[string]any) {
		meta[k] = v
	}
	meta["resourceVersion"] = strconv.Itoa(s.version)
	o["metadata"] = meta
	o["apiVersion"], o["kind"] = resources[resource].version, resources[resource].kind
	s.log = append(s.log, change{s.version, resource, what, o})
	close(s.wake)
	s.wake = make(chan struct{})
}

func (o body) key() string {
	m := o["metadata"].(map[string]any)
	ns, _ := m["namespace"].(string)
	return ns + "/" + m["name"].(string)
}

// disconnect ends all watches.
func (s *server) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.drop)
	s.drop = make(chan struct{})
}

// forget makes all versions up to now expired.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest, s.log = s.version, nil
}

func (s *server) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *server) listed(resource string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists[resource]
}

// accepted is what was last asked for of a resource.
func (s *server) accepted(resource string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepts[resource]
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	resource := parts[len(parts)-1]
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	down, refused := s.down, s.refused[resource]
	s.accepts[resource] = r.Header.Get("Accept")
	s.mu.Unlock()
	q := r.URL.Query()
	switch {
	case down:
		fail(w, http.StatusServiceUnavailable, "ServiceUnavailable")
	case refused:
		fail(w, http.StatusForbidden, "Forbidden")
	case q.Get("watch") == "":
		s.list(w, resource, q.Get("limit"), q.Get("continue"), r.Header.Get("Accept"))
	case q.Get("sendInitialEvents") != "" && !s.stream:
		fail(w, http.StatusUnprocessableEntity, "Invalid")
	default:
		s.watch(w, r, resource)
	}
}

func fail(w http.ResponseWriter, code int, reason string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, code)
}

// form is the object as it is asked for: in full, or its metadata.
func form(o body, accept string) body {
	if !strings.Contains(accept, "as=PartialObjectMetadata") {
		return o
	}
	return body{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]}
}

func (s *server) list(w http.ResponseWriter, resource, limit, from, accept string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists[resource]++
	items := []body{}
	for _, k := range slices.Sorted(maps.Keys(s.objects[resource])) {
		items = append(items, form(s.objects[resource][k], accept))
	}
	first, _ := strconv.Atoi(from)
	next := ""
	items = items[min(first, len(items)):]
	if n, _ := strconv.Atoi(limit); n > 0 && n < len(items) {
		items, next = items[:n], strconv.Itoa(first+n)
	}
	version, kind := resources[resource].version, resources[resource].kind
	if strings.Contains(accept, "as=PartialObjectMetadataList") {
		version, kind = "meta.k8s.io/v1", "PartialObjectMetadata"
	}
	_ = json.NewEncoder(w).Encode(body{"kind": kind + "List", "apiVersion": version, "items": items,
		"metadata": body{"resourceVersion": strconv.Itoa(s.version), "continue": next}})
}

func (s *server) watch(w http.ResponseWriter, r *http.Request, resource string) {
	accept := r.Header.Get("Accept")
	out := json.NewEncoder(w)
	s.mu.Lock()
	at, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	drop := s.drop
	if r.URL.Query().Get("sendInitialEvents") != "" {
		at = s.version
		for _, o := range s.objects[resource] {
			_ = out.Encode(body{"type": "ADDED", "object": form(o, accept)})
		}
		end := body{"metadata": body{"resourceVersion": strconv.Itoa(at),
			"annotations": body{"k8s.io/initial-events-end": "true"}},
			"apiVersion": resources[resource].version, "kind": resources[resource].kind}
		_ = out.Encode(body{"type": "BOOKMARK", "object": form(end, accept)})
	} else if at < s.oldest {
		_ = out.Encode(body{"type": "ERROR", "object": body{"kind": "Status", "apiVersion": "v1",
			"status": "Failure", "reason": "Expired", "code": 410}})
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		s.mu.Lock()
		for _, c := range s.log {
			if c.version > at && c.resource == resource {
				_ = out.Encode(body{"type": c.kind, "object": form(c.object, accept)})
			}
		}
		at = max(at, s.version)
		wake := s.wake
		s.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-wake:
		case <-drop:
			return
		case <-r.Context().Done():
			return
		}
	}
}
