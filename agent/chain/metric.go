package chain

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weirnet/weir/agent/chain/program"
	"github.com/weirnet/weir/agent/ifaces"
)

// Metric says what is measured of a member's map: an integer in it, of 1, 2, 4 or 8 bytes; in a map per CPU the sum
// over all of them.
type Metric struct {
	Map string `yaml:"map" json:"map"`
	// Key is the integer under which it is, of at most 8 bytes.
	Key uint64 `yaml:"key" json:"key"`
	// As is what is made of it: AsValue (also ""), AsAverage or AsMaxRate.
	As string `yaml:"as" json:"as,omitempty"`
}

// The values of Metric.As.
const (
	AsValue   = "value"    // what the map holds
	AsAverage = "average"  // the mean of the last samples
	AsMaxRate = "max-rate" // by how much it has grown in a second, at most, between two of the last samples
)

func (m Metric) check(path string) error {
	switch {
	case m.Map == "":
		return wrong(path+".map", "is missing; want the name of a map in the object")
	case m.As != "" && m.As != AsValue && m.As != AsAverage && m.As != AsMaxRate:
		return wrong(path+".as", "%q; want %s, %s or %s", m.As, AsValue, AsAverage, AsMaxRate)
	}
	return nil
}

// measuredMaps are the maps that metrics read, which must be in the object.
func measuredMaps(spec *ebpf.CollectionSpec, metrics []Metric) (names []string, err error) {
	for _, metric := range metrics {
		m, err := mapOf(spec, metric.Map)
		if err == nil {
			err = program.CheckValue(m.Type, m.KeySize, m.ValueSize)
		}
		if err != nil {
			return nil, fmt.Errorf("metric of map %s: %w", metric.Map, err)
		}
		names = append(names, metric.Map)
	}
	return names, nil
}

// Reading is what a metric's map held.
type Reading struct {
	Key
	Member string
	Metric Metric
	Value  uint64 // 0 also when the map has no such key
	Err    error  // nil, or why it could not be read
}

// Readings reads the maps that the metrics of all running members name.
func (m *Manager) Readings() []Reading {
	var all []Reading
	for _, r := range m.state.Chains {
		err := ifaces.Do(r.Namespace, func() error {
			v, err := m.look(&r.Chain)
			if err != nil || v.running == nil {
				return err
			}
			all = append(all, v.readings(r.Key)...)
			return nil
		})
		if err != nil && !r.gone(err) {
			all = append(all, Reading{Key: r.Key, Err: err})
		}
	}
	return all
}

// readings reads what the members that run measure.
func (v *view) readings(k Key) (all []Reading) {
	dir := generationDir(v.folder, v.running.Number)
	for i := range v.running.Members {
		member := &v.running.Members[i]
		if member.Disabled {
			continue
		}
		for _, metric := range member.Metrics {
			r := Reading{Key: k, Member: member.Name, Metric: metric}
			r.Value, r.Err = program.ReadValue(dir, member.Name, filledBy(member.Maps[metric.Map]), metric.Map, metric.Key)
			if errors.Is(r.Err, ebpf.ErrKeyNotExist) {
				r.Err = nil
			}
			all = append(all, r)
		}
	}
	return all
}
