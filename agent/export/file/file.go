// Package file writes flow records as JSON lines.
package file

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/weirnet/weir/agent/flow"
)

// Sink writes one JSON object per line. It is not safe for concurrent use.
type Sink struct {
	out   io.Writer
	buf   *bufio.Writer
	enc   *json.Encoder
	close func() error
}

// Open appends to a file; "-" is standard output.
func Open(path string) (*Sink, error) {
	if path == "-" {
		return New(os.Stdout), nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the flow file: %w", err)
	}
	s := New(f)
	s.close = f.Close
	if !endsLine(path) {
		_ = s.buf.WriteByte('\n') // into the buffer, which is empty
	}
	return s, nil
}

// endsLine tells whether what is in a file ends with a newline: an agent that was killed may have
// left the beginning of a record, which the next one must not write behind.
func endsLine(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	last := make([]byte, 1)
	if _, err := f.Seek(-1, io.SeekEnd); err != nil {
		return true // empty, or not a regular file
	}
	if _, err := f.Read(last); err != nil {
		return true
	}
	return last[0] == '\n'
}

// New writes to w.
func New(w io.Writer) *Sink {
	buf := bufio.NewWriterSize(w, 64<<10)
	return &Sink{out: w, buf: buf, enc: json.NewEncoder(buf), close: func() error { return nil }}
}

// Write takes a record. It may stay in the buffer until Flush.
func (s *Sink) Write(r *flow.Record) error {
	if err := s.enc.Encode(r); err != nil {
		s.restart()
		return fmt.Errorf("write a flow record: %w", err)
	}
	return nil
}

// Flush hands what was written to the operating system.
func (s *Sink) Flush() error {
	if err := s.buf.Flush(); err != nil {
		s.restart()
		return fmt.Errorf("flush the flow records: %w", err)
	}
	return nil
}

// restart drops what was not written, which the agent reports again, and makes ready for a time
// when the file takes writes again. The newline ends the line that was cut off, if one was.
func (s *Sink) restart() {
	s.buf.Reset(s.out)
	_ = s.buf.WriteByte('\n') // into the buffer, which is empty
}

// Close flushes and closes.
func (s *Sink) Close() error {
	if err := s.Flush(); err != nil {
		return err
	}
	return s.close()
}
