// Package wire is the protocol between the host and a guest, spoken over a serial line.
//
// A frame is a magic word, a type, the length of its body, a CRC-32C of type, length and body,
// and the body, which is JSON. A serial line has no end-to-end check of its own, a guest can die
// in the middle of a frame, and a kernel can print where it should not: so a receiver must notice
// what is damaged, say so, and find the next frame.
package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
)

// Type says what a frame is about.
type Type byte

// Frame is one message.
type Frame struct {
	Type Type
	Body []byte // JSON
}

// Decode reads the body into v.
func (f Frame) Decode(v any) error {
	if err := json.Unmarshal(f.Body, v); err != nil {
		return fmt.Errorf("decode frame of type %q: %w", f.Type, err)
	}
	return nil
}

// MaxBody bounds a frame's body in bytes; a longer one is refused by both sides.
const MaxBody = 8 << 20

// ErrCorrupt is in the chain of a Reader's error when bytes did not make up a frame. The Reader
// can be read on: it looks for the next frame.
var ErrCorrupt = errors.New("corrupt frame")

const headerSize = 4 + 1 + 4 + 4

// magic opens every frame. Its bytes are not ASCII, so that console text does not look like it.
var magic = [4]byte{0xf7, 'W', 'R', 0xb5}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the frame's bytes to b.
func Append(b []byte, f Frame) []byte {
	start := len(b)
	b = append(b, magic[:]...)
	b = append(b, byte(f.Type))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Body)))
	sum := crc32.Update(crc32.Checksum(b[start+4:], castagnoli), castagnoli, f.Body)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, f.Body...)
}

// Writer writes frames. Its methods can be called by several goroutines: frames do not mix.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter makes a Writer on w. Each frame is one Write.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Send writes a frame with v as its JSON body.
func (w *Writer) Send(t Type, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame of type %q: %w", t, err)
	}
	if len(body) > MaxBody {
		return fmt.Errorf("send frame of type %q: %d bytes, at most %d", t, len(body), MaxBody)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = Append(w.buf[:0], Frame{Type: t, Body: body})
	return w.write(w.buf)
}

// Raw writes bytes as they are, between frames. It exists to damage the line in tests.
func (w *Writer) Raw(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(b)
}

func (w *Writer) write(b []byte) error {
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("send frame: %w", err)
	}
	return nil
}

// Reader reads frames. It is for one goroutine.
type Reader struct {
	r       *bufio.Reader
	pending []byte // bytes that were taken for a frame and must be looked at again
}

// NewReader makes a Reader on r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Next gives the next frame. When bytes had to be skipped, or a frame did not check, it returns
// an error with ErrCorrupt in its chain once, and the next call goes on behind them. At the end
// of the stream it returns io.EOF.
func (r *Reader) Next() (Frame, error) {
	var head [headerSize]byte
	skipped, err := r.seek(&head)
	if skipped > 0 {
		if err == nil {
			r.unread(head[:])
		}
		return Frame{}, fmt.Errorf("%w: %d bytes that belong to no frame", ErrCorrupt, skipped)
	}
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Type: Type(head[4])}
	size := binary.LittleEndian.Uint32(head[5:9])
	if size > MaxBody {
		r.unread(head[1:])
		return Frame{}, fmt.Errorf("%w: its length is %d", ErrCorrupt, size)
	}
	f.Body, err = r.take(int(size))
	sum := crc32.Update(crc32.Checksum(head[4:9], castagnoli), castagnoli, f.Body)
	switch {
	case err != nil: // the sender died, or the length is wrong: another frame may be inside
		r.unread(append(head[1:], f.Body...))
		return Frame{}, fmt.Errorf("%w: it ends after %d of %d bytes", ErrCorrupt, len(f.Body), size)
	case sum != binary.LittleEndian.Uint32(head[9:]):
		r.unread(append(head[1:], f.Body...))
		return Frame{}, fmt.Errorf("%w: its checksum is wrong", ErrCorrupt)
	}
	return f, nil
}

// seek reads up to the next magic word and the header that it opens.
func (r *Reader) seek(head *[headerSize]byte) (skipped int, err error) {
	matched := 0
	for matched < len(magic) {
		b, err := r.readByte()
		if err != nil {
			return skipped + matched, err
		}
		if b == magic[matched] {
			matched++
			continue
		}
		skipped += matched + 1
		matched = 0
		if b == magic[0] { // the first byte occurs only once in the magic word
			skipped, matched = skipped-1, 1
		}
	}
	copy(head[:], magic[:])
	rest, err := r.take(headerSize - len(magic))
	copy(head[len(magic):], rest)
	if err != nil {
		return skipped + len(magic) + len(rest), err
	}
	return skipped, nil
}

func (r *Reader) readByte() (byte, error) {
	if len(r.pending) > 0 {
		b := r.pending[0]
		r.pending = r.pending[1:]
		return b, nil
	}
	return r.r.ReadByte()
}

// take reads n bytes; with an error it gives those that came.
func (r *Reader) take(n int) ([]byte, error) {
	b := make([]byte, 0, min(n, 64<<10))
	for len(b) < n {
		if len(r.pending) > 0 {
			m := min(n-len(b), len(r.pending))
			b = append(b, r.pending[:m]...)
			r.pending = r.pending[m:]
			continue
		}
		chunk := make([]byte, min(n-len(b), 64<<10))
		m, err := io.ReadFull(r.r, chunk)
		b = append(b, chunk[:m]...)
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

func (r *Reader) unread(b []byte) { r.pending = append(b[:len(b):len(b)], r.pending...) }
