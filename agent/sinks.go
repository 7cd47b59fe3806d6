package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/bytesize"
	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/clickhouse"
	"github.com/weirnet/weir/agent/export/file"
	"github.com/weirnet/weir/agent/export/grpc"
	"github.com/weirnet/weir/agent/export/ipfix"
	"github.com/weirnet/weir/agent/export/kafka"
	"github.com/weirnet/weir/agent/export/prometheus"
	"github.com/weirnet/weir/agent/export/spool"
)

// SinkConfig is a receiver of records: one of the kinds ClickHouse, File, GRPC, IPFIX, Kafka and
// Prometheus, and how records wait for it.
type SinkConfig struct {
	// Name is the sink's in logs and counters; empty: its kind.
	Name string `yaml:"name,omitempty"`
	// ClickHouse inserts records into tables.
	ClickHouse *clickhouse.Options `yaml:"clickhouse,omitempty"`
	// File appends JSON lines to a file.
	File *FileConfig `yaml:"file,omitempty"`
	// GRPC sends protobuf messages to a collector.
	GRPC *grpc.Options `yaml:"grpc,omitempty"`
	// IPFIX sends messages of RFC 7011 to a collector.
	IPFIX *ipfix.Options `yaml:"ipfix,omitempty"`
	// Kafka produces records to a topic.
	Kafka *kafka.Options `yaml:"kafka,omitempty"`
	// Prometheus serves sums of records.
	Prometheus *prometheus.Options `yaml:"prometheus,omitempty"`
	// Queue is how much may wait in memory, where there is no spool.
	Queue Size `yaml:"queue,omitempty"`
	// Spool is a queue on disk instead, which survives the agent.
	Spool SpoolConfig `yaml:"spool,omitempty"`
	// Batch is how many records are sent at once, at most.
	Batch int `yaml:"batch,omitempty"`
	// Deadline is how long an attempt to send may take.
	Deadline time.Duration `yaml:"deadline,omitempty"`
	// Retry is how long to wait after an attempt that failed: min, and each time twice as long, up to max;
	// less a part that is drawn at random.
	Retry RetryConfig `yaml:"retry,omitempty"`
}

// FileConfig is a file of JSON lines.
type FileConfig struct {
	// Path is the file, which is appended to; "-" is standard output.
	Path string `yaml:"path"`
	// MaxSize is the size at which the file is renamed to path.1, and a new one begun; 0: never.
	MaxSize Size `yaml:"max_size,omitempty"`
	// Keep is how many renamed files are kept.
	Keep int `yaml:"keep,omitempty"`
}

// SpoolConfig is a queue on disk.
type SpoolConfig struct {
	// Path is a folder that is this sink's alone; it is made when it does not exist.
	Path string `yaml:"path"`
	// Size is how much it may hold; 0: 1GiB.
	Size Size `yaml:"size,omitempty"`
}

// RetryConfig bounds the time between two attempts.
type RetryConfig struct {
	// Min is the first pause, and Max the longest.
	Min time.Duration `yaml:"min,omitempty"`
	Max time.Duration `yaml:"max,omitempty"`
}

// Defaults of a sink.
const (
	defaultQueue     = 16 << 20
	defaultSpool     = 1 << 30
	defaultBatch     = 2000
	defaultDeadline  = 10 * time.Second
	defaultRetryMin  = 500 * time.Millisecond
	defaultRetryMax  = 30 * time.Second
	minQueue         = 1 << 20
	maxBatch         = 100_000
	defaultFilesKept = 5
)

// Size is a number of bytes, written like 512KiB, 64MiB, 1GiB, or as a plain number.
type Size = bytesize.Size

// sinkKind is a kind of sinks, for one sink's configuration.
type sinkKind struct {
	name  string
	set   bool // the sink is of this kind
	check func() error
	open  func() (export.Sink, error)
}

func (s *SinkConfig) kinds() []sinkKind {
	return []sinkKind{
		{"clickhouse", s.ClickHouse != nil, s.ClickHouse.Check,
			func() (export.Sink, error) { return clickhouse.Open(*s.ClickHouse) }},
		{"file", s.File != nil, s.File.check, s.File.open},
		{"grpc", s.GRPC != nil, s.GRPC.Check, func() (export.Sink, error) { return grpc.Open(*s.GRPC) }},
		{"ipfix", s.IPFIX != nil, s.IPFIX.Check, func() (export.Sink, error) { return ipfix.Open(*s.IPFIX) }},
		{"kafka", s.Kafka != nil, s.Kafka.Check, func() (export.Sink, error) { return kafka.Open(*s.Kafka) }},
		{"prometheus", s.Prometheus != nil, s.Prometheus.Check,
			func() (export.Sink, error) { return prometheus.Open(*s.Prometheus) }},
	}
}

// kind is the sink's kind; it is an error when there is not exactly one.
func (s *SinkConfig) kind() (sinkKind, error) {
	var all []string
	var set []sinkKind
	for _, k := range s.kinds() {
		all = append(all, k.name)
		if k.set {
			set = append(set, k)
		}
	}
	if len(set) != 1 {
		return sinkKind{}, fmt.Errorf("want one of %s; there are %d", strings.Join(all, ", "), len(set))
	}
	return set[0], nil
}

func (f *FileConfig) check() error {
	switch {
	case f.Path == "":
		return errors.New(`path: is missing; "-" is standard output`)
	case f.MaxSize < 0:
		return fmt.Errorf("max_size: %d; want 0 or more", f.MaxSize)
	case f.Keep < 0:
		return fmt.Errorf("keep: %d; want 0 or more", f.Keep)
	}
	return nil
}

func (f *FileConfig) open() (export.Sink, error) {
	return file.Open(file.Options{Path: f.Path, MaxSize: int64(f.MaxSize), Keep: f.Keep})
}

// withDefaults fills in what is left out.
func (s SinkConfig) withDefaults() SinkConfig {
	if kind, err := s.kind(); err == nil && s.Name == "" {
		s.Name = kind.name
	}
	fill(&s.Queue, defaultQueue)
	fill(&s.Spool.Size, defaultSpool)
	fill(&s.Batch, defaultBatch)
	fill(&s.Deadline, defaultDeadline)
	fill(&s.Retry.Min, defaultRetryMin)
	fill(&s.Retry.Max, max(defaultRetryMax, s.Retry.Min))
	if s.File != nil {
		f := *s.File
		fill(&f.Keep, defaultFilesKept)
		s.File = &f
	}
	return s
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check tells what is wrong with a sink, naming the key in it.
func (s *SinkConfig) check() error {
	kind, err := s.kind()
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	if err := kind.check(); err != nil {
		return fmt.Errorf(".%s.%w", kind.name, err)
	}
	d := s.withDefaults()
	switch {
	case d.Queue < minQueue:
		return fmt.Errorf(".queue: %d; want at least 1MiB", d.Queue)
	case d.Spool.Size < spool.MinSize:
		return fmt.Errorf(".spool.size: %d; want at least 1MiB", d.Spool.Size)
	case s.Spool.Size != 0 && s.Spool.Path == "":
		return errors.New(".spool.path: is missing")
	case d.Batch < 1 || d.Batch > maxBatch:
		return fmt.Errorf(".batch: %d; want 1 to %d", d.Batch, maxBatch)
	case d.Deadline < 0:
		return fmt.Errorf(".deadline: %v; want more than 0", d.Deadline)
	case d.Retry.Min < 0 || d.Retry.Max < d.Retry.Min:
		return fmt.Errorf(".retry: min %v, max %v; want 0 < min <= max", d.Retry.Min, d.Retry.Max)
	}
	return nil
}

// sinks are those of the configuration: Sinks, and Output as one more; standard output, when there
// is neither.
func (c *Config) sinks() []SinkConfig {
	all := make([]SinkConfig, 0, len(c.Sinks)+1)
	if c.Output != "" || len(c.Sinks) == 0 {
		path := c.Output
		if path == "" {
			path = "-"
		}
		all = append(all, SinkConfig{Name: "output", File: &FileConfig{Path: path}}.withDefaults())
	}
	for _, s := range c.Sinks {
		all = append(all, s.withDefaults())
	}
	return all
}

func (c *Config) checkSinks() error {
	for i := range c.Sinks {
		if err := c.Sinks[i].check(); err != nil {
			return fmt.Errorf("sinks[%d]%w", i, err)
		}
	}
	names, spools := map[string]bool{}, map[string]bool{}
	for _, s := range c.sinks() {
		if names[s.Name] {
			return fmt.Errorf("sinks: two are called %q; give one another name", s.Name)
		}
		if s.Spool.Path != "" && spools[s.Spool.Path] {
			return fmt.Errorf("sinks: two have the spool %s", s.Spool.Path)
		}
		names[s.Name], spools[s.Spool.Path] = true, true
	}
	if c.StopTimeout < 0 {
		return fmt.Errorf("stop_timeout: %v; want 0 or more", c.StopTimeout)
	}
	return nil
}

// open opens the sink itself.
func (s *SinkConfig) open() (export.Sink, error) {
	kind, err := s.kind()
	if err != nil {
		return nil, err
	}
	return kind.open()
}

// openSinks opens all sinks.
func (a *Agent) openSinks() (*export.Exporter, error) {
	var all []export.Options
	for _, s := range a.cfg.sinks() {
		sink, err := s.open()
		if err != nil {
			for _, o := range all {
				err = errors.Join(err, o.Sink.Close())
			}
			return nil, fmt.Errorf("sink %s: %w", s.Name, err)
		}
		all = append(all, export.Options{Name: s.Name, Sink: sink, Queue: int64(s.Queue),
			Spool: s.Spool.Path, SpoolSize: int64(s.Spool.Size), Batch: s.Batch, Deadline: s.Deadline,
			Retry:   export.Retry{Min: s.Retry.Min, Max: s.Retry.Max},
			Through: s.File != nil && s.Spool.Path == ""})
	}
	return export.New(all, a.wallOffset, a.log)
}

// wallOffset is what is to be added to the agent's times to give ns since 1970. On a virtual clock
// that is nothing.
func (a *Agent) wallOffset() int64 {
	if a.cfg.Clock.Virtual {
		return 0
	}
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME, &ts) != nil {
		return 0 // cannot happen: the clock and the address are valid
	}
	return ts.Nano() - a.time()
}

// closeSinks sends what the sinks hold, for as long as the configuration gives them.
func (a *Agent) closeSinks() error {
	if a.exporter == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.StopTimeout)
	defer cancel()
	return a.exporter.Close(ctx)
}
