package clickhouse

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/weirnet/weir/agent/export/certs"
)

// Options of a ClickHouse sink.
type Options struct {
	// Address is host:port of the server's native protocol.
	Address string `yaml:"address"`
	// Database holds the tables, and has to exist; empty: default.
	Database string `yaml:"database"`
	// User is the name to log in with; empty: default.
	User string `yaml:"user"`
	// PasswordFile is read with each connection; empty: there is no password.
	PasswordFile string `yaml:"password_file"`
	// TLS secures the connection; nil: it is plain.
	TLS *certs.Options `yaml:"tls"`
	// Compression of what is sent is none, lz4 or zstd; empty: lz4.
	Compression string `yaml:"compression"`
	// FixedTables says that somebody else makes the tables and their columns; else the agent does, which needs the
	// rights to create tables and to add columns.
	FixedTables bool `yaml:"fixed_tables"`
	// Settings are those of the server, by name, that hold for the sink's queries.
	Settings map[string]string `yaml:"settings"`
}

// Defaults of the options.
const (
	defaultDatabase = "default"
	defaultUser     = "default"
	defaultCodec    = "lz4"
)

var codecs = map[string]clickhouse.CompressionMethod{"none": clickhouse.CompressionNone,
	"lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD}

// Check tells what is wrong with the options.
func (o *Options) Check() error {
	if _, port, err := net.SplitHostPort(o.Address); err != nil || port == "" {
		return fmt.Errorf("address: %q; want host:port", o.Address)
	}
	if _, ok := codecs[o.Compression]; o.Compression != "" && !ok {
		return fmt.Errorf("compression: %q; want one of %s", o.Compression,
			strings.Join(slices.Sorted(maps.Keys(codecs)), ", "))
	}
	if _, ok := o.Settings[settingToken]; ok {
		return errors.New("settings." + settingToken + ": is the sink's own")
	}
	if o.TLS != nil {
		if err := o.TLS.Check(); err != nil {
			return fmt.Errorf("tls: %w", err)
		}
	}
	return nil
}

// withDefaults fills in what is left out.
func (o Options) withDefaults() Options {
	o.Database = cmp.Or(o.Database, defaultDatabase)
	o.User = cmp.Or(o.User, defaultUser)
	o.Compression = cmp.Or(o.Compression, defaultCodec)
	return o
}

// settings are numbers where they can be: old servers are sent no texts.
func (o *Options) settings() clickhouse.Settings {
	all := clickhouse.Settings{}
	for name, value := range o.Settings {
		all[name] = value
		if n, err := strconv.Atoi(value); err == nil {
			all[name] = n
		}
	}
	return all
}

func (o *Options) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
