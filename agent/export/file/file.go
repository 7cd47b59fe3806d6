// Package file writes records as JSON lines to a file, which it can rotate, or to standard output.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/weirnet/weir/agent/flow"
)

// Options of a file.
type Options struct {
	// Path is the file, which is appended to; "-" is standard output.
	Path string
	// MaxSize is how many bytes a file may have before it is renamed to Path.1, that to Path.2,
	// and so on, and a new one is begun; 0: it is never renamed.
	MaxSize int64
	// Keep is how many files are kept beside the one at Path.
	Keep int
}

// Sink writes one JSON object per line. It is an export.Sink.
type Sink struct {
	opts Options
	out  *os.File
	size int64 // of the file; -1: it is none that can be cut or renamed
	torn bool  // the last write has failed in the middle of a line, which could not be cut off
}

// Open opens the file.
func Open(opts Options) (*Sink, error) {
	s := &Sink{opts: opts}
	if opts.Path == "-" {
		s.out, s.size = os.Stdout, -1
		return s, nil
	}
	return s, s.open()
}

func (s *Sink) open() error {
	f, err := os.OpenFile(s.opts.Path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o640)
	if err != nil {
		return fmt.Errorf("open the flow file: %w", err)
	}
	s.out, s.size, s.torn = f, -1, false
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		s.size = info.Size()
		s.torn = !endsLine(f, s.size)
	}
	return nil
}

// endsLine tells whether what is in a file ends with a newline: an agent that was killed may have
// left the beginning of a record, which the next one must not write behind.
func endsLine(f io.ReaderAt, size int64) bool {
	if size == 0 {
		return true
	}
	last := make([]byte, 1)
	_, err := f.ReadAt(last, size-1)
	return err != nil || last[0] == '\n'
}

// Format implements export.Sink.
func (s *Sink) Format() string { return "json-lines-1" }

// Append implements export.Sink.
func (s *Sink) Append(b []byte, r flow.Report, _ int64) []byte {
	return append(r.AppendJSON(b), '\n')
}

// Send implements export.Sink: it writes lines, all or, as far as the file can be cut, none.
func (s *Sink) Send(_ context.Context, lines []byte, _ int) error {
	if err := s.place(int64(len(lines))); err != nil {
		return err
	}
	if s.torn {
		if _, err := s.out.Write([]byte{'\n'}); err != nil {
			return fmt.Errorf("write flow records: %w", err)
		}
		s.torn = false
		s.grow(1)
	}
	n, err := s.out.Write(lines)
	if err == nil {
		s.grow(n)
		return nil
	}
	if n > 0 && (s.size < 0 || s.out.Truncate(s.size) != nil) {
		s.torn = lines[n-1] != '\n'
	}
	return fmt.Errorf("write flow records: %w", err)
}

func (s *Sink) grow(n int) {
	if s.size >= 0 {
		s.size += int64(n)
	}
}

// place makes sure that there is a file to write n bytes to, and renames one that would be too large.
func (s *Sink) place(n int64) error {
	if s.out == nil {
		return s.open()
	}
	if s.size < 0 {
		return nil
	}
	if !s.moved() {
		if s.opts.MaxSize == 0 || s.size == 0 || s.size+n <= s.opts.MaxSize {
			return nil
		}
		if err := s.rotate(); err != nil {
			return fmt.Errorf("rotate the flow file: %w", err)
		}
	}
	err := s.out.Close()
	s.out = nil
	return errors.Join(err, s.open())
}

// moved tells whether somebody else has renamed or removed the file.
func (s *Sink) moved() bool {
	there, err := os.Stat(s.opts.Path)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	ours, err := s.out.Stat()
	return err == nil && !os.SameFile(there, ours)
}

// rotate renames the files, oldest first. The oldest one is replaced.
func (s *Sink) rotate() error {
	if s.opts.Keep == 0 {
		return os.Remove(s.opts.Path)
	}
	for i := s.opts.Keep; i > 0; i-- {
		err := os.Rename(s.name(i-1), s.name(i))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// name is the name of the i-th file, from the newest on.
func (s *Sink) name(i int) string {
	if i == 0 {
		return s.opts.Path
	}
	return s.opts.Path + "." + strconv.Itoa(i)
}

// Close closes the file. Standard output stays open.
func (s *Sink) Close() error {
	if s.out == nil || s.out == os.Stdout {
		return nil
	}
	return s.out.Close()
}
