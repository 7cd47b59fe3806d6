// Package clickhouse inserts records into tables of ClickHouse, by its native protocol. It makes the
// tables, and adds columns that a newer agent has.
package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/pbflow"
	"github.com/weirnet/weir/agent/flow"
)

// Sink sends to a server. It is an export.Sink.
//
// A block becomes one insert per table. Whether an insert without an answer was made is not known, and it
// is made again, so a row can come twice: the tables' engine keeps one of rows with the same boot and
// sequence, and servers that know tokens of deduplication refuse the second insert at once.
type Sink struct {
	opts   Options
	files  *certs.Files // nil without TLS
	conn   driver.Conn  // nil: there is none, or it has failed
	wire   wire
	tokens bool // the server knows tokens of deduplication
}

// Open makes a sink. It connects when it sends, so that an agent can start before its server.
func Open(opts Options) (*Sink, error) {
	files, err := certs.Read(opts.TLS)
	if err != nil {
		return nil, err
	}
	return &Sink{opts: opts.withDefaults(), files: files}, nil
}

// Format implements export.Sink.
func (s *Sink) Format() string { return "clickhouse-1" }

// Append implements export.Sink: a block is a message Records of package pbflow.
func (s *Sink) Append(b []byte, r flow.Report, offset int64) []byte {
	return pbflow.Append(b, r, offset)
}

// Send implements export.Sink.
func (s *Sink) Send(ctx context.Context, payload []byte, records int) error {
	rows, err := decode(payload, records)
	if err != nil {
		return fmt.Errorf("%w: %w", export.ErrRejected, err)
	}
	// The client does not look at the context while it logs in.
	stop := context.AfterFunc(ctx, s.wire.cut)
	err = s.deliver(ctx, payload, rows)
	stop()
	if err != nil {
		// The next attempt connects anew, and looks at the tables again: they may be why.
		return errors.Join(fmt.Errorf("insert into %s: %w", s.opts.Address, err), ctx.Err(), s.Close())
	}
	return nil
}

// rows are what a block has for each table, as structs with times of the wall clock.
type rows map[*table][]reflect.Value

func decode(payload []byte, records int) (rows, error) {
	var m pbflow.Records
	if err := proto.Unmarshal(payload, &m); err != nil {
		return nil, err
	}
	if n := len(m.GetEntries()); n != records {
		return nil, fmt.Errorf("the block has %d records; want %d", n, records)
	}
	all := rows{}
	for _, entry := range m.GetEntries() {
		report, err := pbflow.Decode(entry)
		if err != nil {
			return nil, err
		}
		t, row := tableOf(report)
		setTime(row.FieldByName("Start"), entry.GetTimeFlowStart())
		setTime(row.FieldByName("End"), entry.GetTimeFlowEnd())
		all[t] = append(all[t], row)
	}
	return all, nil
}

func tableOf(r flow.Report) (*table, reflect.Value) {
	switch {
	case r.Drop != nil:
		return drops, reflect.ValueOf(r.Drop).Elem()
	case r.DNS != nil:
		return lookups, reflect.ValueOf(r.DNS).Elem()
	}
	return flows, reflect.ValueOf(r.Record).Elem()
}

// setTime gives a field, which is of the agent's clock, the time of the wall clock, when there is one.
func setTime(field reflect.Value, t *timestamppb.Timestamp) {
	if t != nil {
		field.SetInt(t.AsTime().UnixNano())
	}
}

func (s *Sink) deliver(ctx context.Context, payload []byte, all rows) error {
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(payload)
	for _, t := range tables {
		if len(all[t]) == 0 {
			continue
		}
		if err := s.insert(ctx, t, all[t], hex.EncodeToString(sum[:])); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return nil
}

// insert inserts rows in one block. The token is the same in all attempts, also those of a later agent.
func (s *Sink) insert(ctx context.Context, t *table, rows []reflect.Value, token string) error {
	if s.tokens {
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{settingToken: token}))
	}
	batch, err := s.conn.PrepareBatch(ctx, t.insert())
	if err != nil {
		return err
	}
	values := make([]any, len(t.columns))
	for _, row := range rows {
		for i := range t.columns {
			values[i] = t.columns[i].value(row)
		}
		if err := batch.Append(values...); err != nil {
			return err // it has let go of the connection
		}
	}
	return batch.Send()
}

// dialTimeout bounds how long it takes to reach a server.
const dialTimeout = 10 * time.Second

// connect connects, and sees to the tables.
func (s *Sink) connect(ctx context.Context) error {
	auth := clickhouse.Auth{Database: s.opts.Database, Username: s.opts.User}
	var err error
	if auth.Password, err = s.opts.password(); err != nil {
		return err
	}
	s.conn, err = clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.opts.Address}, Auth: auth, Settings: s.opts.settings(), DialContext: s.dial,
		DialTimeout: dialTimeout, MaxOpenConns: 1, MaxIdleConns: 1,
		Compression: &clickhouse.Compression{Method: codecs[s.opts.Compression]},
		ClientInfo:  clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{Name: "weir"}}},
	})
	if err != nil {
		return err
	}
	server, err := ask(ctx, s.conn)
	if err != nil {
		return err
	}
	s.tokens = server.tokens
	if s.opts.FixedTables {
		return nil
	}
	return server.migrate(ctx)
}

func (s *Sink) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	if s.files == nil {
		conn, err = plain.DialContext(ctx, "tcp", address)
	} else {
		conn, err = s.files.Dial(ctx, plain, address)
	}
	s.wire.set(conn)
	return conn, err
}

// Close ends the connection.
func (s *Sink) Close() error {
	conn := s.conn
	if s.conn = nil; conn == nil {
		return nil
	}
	if err := conn.Close(); err != nil {
		return fmt.Errorf("close the connection to %s: %w", s.opts.Address, err)
	}
	return nil
}

// wire is the connection of the latest login.
type wire struct {
	mu   sync.Mutex
	conn net.Conn
}

func (w *wire) set(conn net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = conn
}

// cut ends whatever is under way.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close() // it may be closed
	}
}
