package agent

import (
	"fmt"
	"io"
	"log/slog"
)

// Log is how the agent's log is written, to standard error.
type Log struct {
	// Format is text or json, a line for each message.
	Format string `yaml:"format,omitempty"`
	// Level is debug, info, warn or error: what weighs less is left out.
	Level slog.Level `yaml:"level,omitempty"`
}

// Values of Log.Format.
const (
	logText = "text"
	logJSON = "json"
)

func (l *Log) check() error {
	if l.Format != logText && l.Format != logJSON {
		return fmt.Errorf("format: %q; want text or json", l.Format)
	}
	return nil
}

// logger makes the log; the level may change while it is used.
func (l *Log) logger(w io.Writer, level *slog.LevelVar) *slog.Logger {
	level.Set(l.Level)
	opts := &slog.HandlerOptions{Level: level}
	if l.Format == logJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
