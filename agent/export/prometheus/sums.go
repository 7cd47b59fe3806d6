package prometheus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// family is a kind of what is counted.
type family byte

const (
	flows family = iota
	drops
	lookups
	families
)

// counters are the metrics of a family, of which there are one or two.
var counters = [families][]struct{ name, help string }{
	flows: {{"weir_flow_packets_total", "Packets of flow records."},
		{"weir_flow_bytes_total", "Bytes of flow records, with link headers."}},
	drops:   {{"weir_drop_packets_total", "Packets that the kernel has dropped."}},
	lookups: {{"weir_dns_transactions_total", "DNS transactions."}},
}

// Metrics are the names of all metrics of the sink.
func Metrics() (names []string) {
	for _, family := range counters {
		for _, c := range family {
			names = append(names, c.name)
		}
	}
	return names
}

// sums are what was counted, by the values of labels.
type sums struct {
	labels [families][]string
	limit  int // series of a family

	mu     sync.Mutex
	series [families]map[string]*[2]uint64
}

func newSums(labels []string, limit int) *sums {
	s := &sums{labels: [families][]string{labels, {"reason"}, {"outcome", "rcode"}}, limit: limit}
	for i := range s.series {
		s.series[i] = map[string]*[2]uint64{}
	}
	return s
}

var errDamaged = errors.New("a block of amounts is damaged")

// add adds all amounts of a block, or none.
func (s *sums) add(block []byte) error {
	for rest := block; len(rest) > 0; {
		if len(rest) < headerSize || rest[0] >= byte(families) {
			return errDamaged
		}
		size := uint64(headerSize) + uint64(binary.BigEndian.Uint32(rest[17:]))
		if size > uint64(len(rest)) ||
			bytes.Count(rest[headerSize:size], []byte{separator}) != len(s.labels[rest[0]]) {
			return errDamaged
		}
		rest = rest[size:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := block; len(rest) > 0; {
		size := headerSize + int(binary.BigEndian.Uint32(rest[17:]))
		of := s.of(family(rest[0]), rest[headerSize:size])
		of[0] += binary.BigEndian.Uint64(rest[1:])
		of[1] += binary.BigEndian.Uint64(rest[9:])
		rest = rest[size:]
	}
	return nil
}

// of gives the series of labels' values: that of all others, where there are too many.
func (s *sums) of(is family, key []byte) *[2]uint64 {
	all := s.series[is]
	if of := all[string(key)]; of != nil {
		return of
	}
	name := string(key)
	if len(all) >= s.limit {
		name = strings.Repeat("other"+string([]byte{separator}), len(s.labels[is]))
	}
	of := all[name]
	if of == nil {
		of = new([2]uint64)
		all[name] = of
	}
	return of
}

// ServeHTTP implements http.Handler: it writes Prometheus' text format, version 0.0.4.
func (s *sums) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(s.text()) // who does not wait for the answer does not want it
}

func (s *sums) text() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for is := range families {
		keys := slices.Sorted(maps.Keys(s.series[is]))
		for n, c := range counters[is] {
			b = fmt.Appendf(b, "# HELP %s %s\n# TYPE %s counter\n", c.name, c.help, c.name)
			for _, key := range keys {
				b = append(append(b, c.name...), '{')
				b = appendLabels(b, s.labels[is], key)
				b = fmt.Appendf(b, "} %d\n", s.series[is][key][n])
			}
		}
	}
	return b
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func appendLabels(b []byte, names []string, key string) []byte {
	for i, name := range names {
		var value string
		value, key, _ = strings.Cut(key, string([]byte{separator}))
		if i > 0 {
			b = append(b, ',')
		}
		value = escapes.Replace(strings.ToValidUTF8(value, "\uFFFD"))
		b = fmt.Appendf(b, `%s="%s"`, name, value)
	}
	return b
}
