package report

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// Merge puts the reports of several runs together: of shards of one suite, of different kernels, or
// both. Shards have to be complete. What contradicts is an error: two results for one scenario on one
// kernel, two versions of a kernel, binaries of different versions. The names are for errors, one for
// each report.
func Merge(reports []*result.Report, names []string) (*result.Report, error) {
	if len(reports) == 0 {
		return nil, errors.New("merge: no report")
	}
	all := *reports[0]
	all.Kernels, all.Shard, all.Flaky, all.Outlines = nil, "", nil, map[string]result.Outline{}
	m := merging{from: map[string]string{}, shards: map[string][]string{}}
	for i, r := range reports {
		if r.Weir != all.Weir {
			return nil, fmt.Errorf("merge: %s is of weir %s, %s of %s", names[i], r.Weir, names[0], all.Weir)
		}
		if r.Started.Before(all.Started) {
			all.Started, all.Command = r.Started, r.Command
		}
		maps.Copy(all.Outlines, r.Outlines)
		all.Flaky = append(all.Flaky, r.Flaky...)
		all.Millis = max(all.Millis, r.Millis) // they have run at the same time
		for k := range r.Kernels {
			if err := m.add(&r.Kernels[k], r.Shard, names[i]); err != nil {
				return nil, fmt.Errorf("merge: %w", err)
			}
		}
	}
	for _, k := range m.kernels {
		if err := complete(k.Line, m.shards[k.Line]); err != nil {
			return nil, fmt.Errorf("merge: %w", err)
		}
		all.Kernels = append(all.Kernels, k.Kernel)
	}
	return &all, nil
}

// merging is what is merged so far.
type merging struct {
	kernels []*merged
	from    map[string]string   // kernel and scenario: the name of its report
	shards  map[string][]string // by kernel: the shards that ran there, or could not have it
}

// merged is a kernel, and the name of the first report that has it.
type merged struct {
	result.Kernel
	from string
}

// add merges a kernel of the report of that name. Where a kernel could not be had it stays a kernel of
// its own, so that what it lacks is seen.
func (m *merging) add(k *result.Kernel, shard, name string) error {
	at := slices.IndexFunc(m.kernels, func(old *merged) bool {
		return old.Line == k.Line && (old.Unavailable == "") == (k.Unavailable == "")
	})
	if at < 0 {
		at = len(m.kernels)
		m.kernels = append(m.kernels, &merged{Kernel: *k, from: name})
		m.kernels[at].Scenarios = nil
	} else if err := m.kernels[at].join(k, name); err != nil {
		return err
	}
	to := m.kernels[at]
	m.shards[k.Line] = append(m.shards[k.Line], shard)
	for _, s := range k.Scenarios {
		key := k.Line + " " + s.Name
		if other, ok := m.from[key]; ok {
			return fmt.Errorf("%s on %s is in %s and in %s", s.Name, k.Line, other, name)
		}
		m.from[key] = name
		to.Scenarios = append(to.Scenarios, s)
	}
	slices.SortStableFunc(to.Scenarios, func(a, b result.Scenario) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// join adds up what two runs on a kernel say of it.
func (m *merged) join(k *result.Kernel, name string) error {
	if m.Version != k.Version {
		return fmt.Errorf("%s is %s in %s, %s in %s", m.Line, m.Version, m.from, k.Version, name)
	}
	if m.Lane != k.Lane {
		return fmt.Errorf("%s ran on other machines in %s (%s) than in %s (%s)", m.Line, m.from, lane(&m.Kernel),
			name, lane(k))
	}
	m.BootMillis = max(m.BootMillis, k.BootMillis)
	m.Millis = max(m.Millis, k.Millis)
	m.BootCrashes = append(m.BootCrashes, k.BootCrashes...)
	m.Restores += k.Restores
	if m.Verified == nil {
		m.Verified, m.Instructions, m.Memory, m.LoadMillis = k.Verified, k.Instructions, k.Memory, k.LoadMillis
	}
	if m.Drift == nil {
		m.Drift = k.Drift
	}
	return nil
}

// complete checks that all shards are there. Whether one is there twice shows by its scenarios.
func complete(line string, shards []string) error {
	count := 0
	for i, text := range shards {
		s, err := result.ParseShard(text)
		if err != nil {
			return err
		}
		if i > 0 && s.Count != count {
			return fmt.Errorf("%s has shards of different suites: %s", line, strings.Join(shards, ", "))
		}
		count = s.Count
	}
	var missing []string
	for i := range count {
		s := result.Shard{Index: i + 1, Count: count}.String()
		if !slices.Contains(shards, s) {
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks shard %s; there are %s", line, strings.Join(missing, ", "), strings.Join(shards, ", "))
	}
	return nil
}
