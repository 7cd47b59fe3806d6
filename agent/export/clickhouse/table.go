package clickhouse

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/weirnet/weir/agent/flow"
)

// table is a table of one kind of records.
type table struct {
	name    string
	columns []column
	// key is what rows are sorted by, after their time, and found by: like those of kubenetmon's table, what asks for sums are
	// about comes first. Boot and sequence, which end it, tell rows from each other.
	key []string
}

var (
	flows = newTable[flow.Record]("network_flows", "direction", "protocol", "src_labels_app", "dst_labels_app",
		"src_labels_pod", "dst_labels_pod")
	drops   = newTable[flow.Drop]("network_drops", "reason", "protocol")
	lookups = newTable[flow.DNS]("network_dns", "outcome", "name")
)

var tables = []*table{flows, drops, lookups}

func newTable[Row any](name string, key ...string) *table {
	return &table{name: name, columns: append(times(), columnsOf(reflect.TypeFor[Row]())...), key: key}
}

// insert is the query that rows follow.
func (t *table) insert() string {
	var names []string
	for _, c := range t.columns {
		names = append(names, quote(c.name))
	}
	return fmt.Sprintf("INSERT INTO %s (%s)", quote(t.name), strings.Join(names, ", "))
}

// create is the query that makes the table.
func (t *table) create(s *server) string {
	var lines []string
	for _, c := range t.columns {
		lines = append(lines, "\t"+quote(c.name)+" "+c.typ(s))
	}
	key := append([]string{"date", "toStartOfMinute(time)"}, t.key...)
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (\n%s\n) ENGINE = ReplacingMergeTree PARTITION BY date ORDER BY (%s)%s",
		quote(t.name), strings.Join(lines, ",\n"), strings.Join(append(key, "boot", "sequence"), ", "), s.window())
}

func quote(name string) string { return "`" + name + "`" }

// Settings of servers that matter here.
const (
	settingToken  = "insert_deduplication_token"
	settingWindow = "non_replicated_deduplication_window"
	// settingWords is what servers before 19.1 want before they make columns with dictionaries.
	settingWords = "allow_experimental_low_cardinality_type"
)

// window is how many inserts a table remembers the tokens of: those of many agents, while one makes some attempts.
const window = 10_000

// server is what matters of a server.
type server struct {
	conn   driver.Conn
	types  map[string]bool // data types that it has
	tokens bool
	words  bool // it wants to be told that columns may have dictionaries
	merge  bool // tables remember tokens when they are told to
}

// ask asks a server what it can do: there is no version at which all of it came.
func ask(ctx context.Context, conn driver.Conn) (*server, error) {
	s := &server{conn: conn}
	types, err := s.list(ctx, "SELECT name FROM system.data_type_families")
	if err != nil {
		return nil, err
	}
	settings, err := s.list(ctx, "SELECT name FROM system.settings")
	if err != nil {
		return nil, err
	}
	merge, err := s.list(ctx, "SELECT name FROM system.merge_tree_settings")
	if err != nil {
		return nil, err
	}
	s.types = map[string]bool{}
	for _, name := range types {
		s.types[name] = true
	}
	s.tokens, s.words = slices.Contains(settings, settingToken), slices.Contains(settings, settingWords)
	s.merge = slices.Contains(merge, settingWindow)
	return s, nil
}

func (s *server) window() string {
	if !s.tokens || !s.merge {
		return ""
	}
	return fmt.Sprintf(" SETTINGS %s = %d", settingWindow, window)
}

// migrate makes the tables that are missing, and the columns. Other agents may be about to do the same.
func (s *server) migrate(ctx context.Context) error {
	if s.words {
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{settingWords: 1}))
	}
	for _, t := range tables {
		if err := s.conn.Exec(ctx, t.create(s)); err != nil {
			return fmt.Errorf("make table %s: %w", t.name, err)
		}
		if err := s.extend(ctx, t); err != nil {
			return fmt.Errorf("add columns to table %s: %w", t.name, err)
		}
	}
	return nil
}

// extend adds columns to a table that an older agent has made.
func (s *server) extend(ctx context.Context, t *table) error {
	have, err := s.columns(ctx, t)
	if err != nil {
		return err
	}
	for _, c := range t.columns {
		if slices.Contains(have, c.name) {
			continue
		}
		failed := s.conn.Exec(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", quote(t.name), quote(c.name), c.typ(s)))
		if failed == nil {
			continue
		}
		if have, err = s.columns(ctx, t); err != nil || !slices.Contains(have, c.name) {
			return failed
		} // another agent was faster
	}
	return nil
}

func (s *server) columns(ctx context.Context, t *table) ([]string, error) {
	return s.list(ctx, "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '"+t.name+"'")
}

// list gives what a query with one column of texts gives.
func (s *server) list(ctx context.Context, query string) ([]string, error) {
	rows, err := s.conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}
