package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/weirnet/weir/agent/export/certs"
)

// Options of a Kafka sink.
type Options struct {
	// Brokers are host:port of some of the cluster's brokers; the others are found through them.
	Brokers []string `yaml:"brokers"`
	// Topic is where records go. It has to exist, unless the brokers make topics by themselves.
	Topic string `yaml:"topic"`
	// Format is protobuf or json; empty: protobuf.
	Format string `yaml:"format"`
	// Compression is none, gzip, snappy, lz4 or zstd; empty: snappy.
	Compression string `yaml:"compression"`
	// Acks is who must have a message before it counts as sent: all of the replicas that are in
	// sync, their leader, or none. Empty: all.
	Acks string `yaml:"acks"`
	// TLS secures the connections; nil: they are plain.
	TLS *certs.Options `yaml:"tls"`
	// SASL says who we are; nil: nobody asks.
	SASL *SASL `yaml:"sasl"`
}

// SASL is a user and a password.
type SASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512.
	Mechanism string `yaml:"mechanism"`
	// User is the name to log in with.
	User string `yaml:"user"`
	// PasswordFile is read with each connection.
	PasswordFile string `yaml:"password_file"`
}

// Values of the options; the first ones are the defaults.
const (
	formatProtobuf = "protobuf"
	formatJSON     = "json"
	defaultCodec   = "snappy"
	acksAll        = "all"
)

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

var acks = map[string]kgo.Acks{acksAll: kgo.AllISRAcks(), "leader": kgo.LeaderAck(), "none": kgo.NoAck()}

// mechanisms make mechanisms from what gives the user and the password.
var mechanisms = map[string]func(*SASL) sasl.Mechanism{
	"plain": func(s *SASL) sasl.Mechanism {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.password()
			return plain.Auth{User: s.User, Pass: password}, err
		})
	},
	"scram-sha-256": func(s *SASL) sasl.Mechanism { return scram.Sha256(s.scram) },
	"scram-sha-512": func(s *SASL) sasl.Mechanism { return scram.Sha512(s.scram) },
}

func (s *SASL) scram(context.Context) (scram.Auth, error) {
	password, err := s.password()
	return scram.Auth{User: s.User, Pass: password}, err
}

func (s *SASL) password() (string, error) {
	text, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("sasl: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	if len(o.Brokers) == 0 {
		return errors.New("brokers: are missing; want one host:port, or more")
	}
	for i, b := range o.Brokers {
		if _, port, err := net.SplitHostPort(b); err != nil || port == "" {
			return fmt.Errorf("brokers[%d]: %q; want host:port", i, b)
		}
	}
	if o.Topic == "" {
		return errors.New("topic: is missing")
	}
	if o.Format != "" && o.Format != formatProtobuf && o.Format != formatJSON {
		return fmt.Errorf("format: %q; want protobuf or json", o.Format)
	}
	if err := oneOf("compression", o.Compression, codecs); o.Compression != "" && err != nil {
		return err
	}
	if err := oneOf("acks", o.Acks, acks); o.Acks != "" && err != nil {
		return err
	}
	if o.TLS != nil {
		if err := o.TLS.Check(); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	return o.SASL.check()
}

func (s *SASL) check() error {
	if s == nil {
		return nil
	}
	if err := oneOf("sasl.mechanism", s.Mechanism, mechanisms); err != nil {
		return err
	}
	switch {
	case s.User == "":
		return errors.New("sasl.user: is missing")
	case s.PasswordFile == "":
		return errors.New("sasl.password_file: is missing")
	}
	return nil
}

// oneOf refuses values that are no key of known.
func oneOf[T any](key, value string, known map[string]T) error {
	if _, ok := known[value]; ok {
		return nil
	}
	return fmt.Errorf("%s: %q; want one of %s", key, value,
		strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

// withDefaults fills in what is left out.
func (o Options) withDefaults() Options {
	o.Format = cmp.Or(o.Format, formatProtobuf)
	o.Compression = cmp.Or(o.Compression, defaultCodec)
	o.Acks = cmp.Or(o.Acks, acksAll)
	return o
}
