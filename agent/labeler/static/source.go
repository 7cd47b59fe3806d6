package static

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"github.com/weirnet/weir/agent/labeler"
)

// Source tells a cluster what a file says, when its time comes. It reads the file again when it
// has changed. It is not safe for concurrent use.
type Source struct {
	path    string
	cluster *labeler.Cluster
	start   int64

	read   os.FileInfo // of the file as it was read
	events []event     // that are still to come
}

// event is something that is to be told at a time.
type event struct {
	at   int64
	tell func(c *labeler.Cluster, now int64)
}

// New reads the file for the first time, and tells what is known by now.
func New(path string, c *labeler.Cluster, now int64) (*Source, error) {
	s := &Source{path: path, cluster: c, start: now}
	return s, s.Advance(now)
}

// Advance tells what has become known by now. A file that has changed and cannot be read any
// more is an error; what it said before still holds then.
func (s *Source) Advance(now int64) error {
	err := s.reload(now)
	n := 0
	for ; n < len(s.events) && s.events[n].at <= now; n++ {
		s.events[n].tell(s.cluster, now)
	}
	s.events = s.events[n:]
	return err
}

func (s *Source) reload(now int64) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	if s.read != nil && os.SameFile(info, s.read) && info.Size() == s.read.Size() &&
		info.ModTime().Equal(s.read.ModTime()) {
		return nil
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	s.read = info // also when it is bad: it is told once
	plan, err := Parse(s.path, data, s.start)
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	s.apply(plan, now)
	return nil
}

// apply tells what does not depend on the time, takes back what is in the file no more, and
// plans the rest.
func (s *Source) apply(p *Plan, now int64) {
	keep := map[string]bool{}
	for _, n := range p.nodes {
		keep[n.Name] = true
		s.cluster.SetNode(n, now)
	}
	s.cluster.KeepNodes(keep, now)

	keep = map[string]bool{}
	for _, v := range p.services {
		keep[v.Namespace+"/"+v.Name] = true
		s.cluster.SetService(v)
	}
	s.cluster.KeepServices(keep)

	keep = map[string]bool{}
	for _, e := range p.endpoints {
		keep[e.Namespace+"/"+e.Name] = true
		s.cluster.SetEndpoints(e)
	}
	s.cluster.KeepEndpoints(keep)

	keep = map[string]bool{}
	for i := range p.pods {
		if p.pods[i].to == 0 || p.pods[i].to > now {
			keep[p.pods[i].UID] = true
		}
	}
	s.cluster.KeepPods(keep, now)
	s.events = p.events()
	s.cluster.SetSynced()
}

// events are the pods' beginnings and ends, in the order in which they become known.
func (p *Plan) events() (all []event) {
	for _, pod := range p.pods {
		all = append(all, event{pod.told, func(c *labeler.Cluster, now int64) { c.SetPod(pod.Pod, now) }})
		if pod.to != 0 {
			all = append(all, event{pod.to, func(c *labeler.Cluster, _ int64) { c.DeletePod(pod.UID, pod.to) }})
		}
	}
	slices.SortStableFunc(all, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return all
}
