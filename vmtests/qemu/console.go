package qemu

import (
	"io"
	"sync"
)

// consoleLimit bounds what is kept of a console, in bytes. A guest that prints without end keeps
// its newest output.
const consoleLimit = 1 << 20

// Console is what a guest has printed. It can be used by several goroutines.
type Console struct {
	mu     sync.Mutex
	kept   []byte
	gone   int64 // bytes that are no longer kept
	closed chan struct{}
}

// readConsole keeps what comes from r until it ends.
func readConsole(r io.Reader) *Console {
	c := &Console{closed: make(chan struct{})}
	go func() {
		defer close(c.closed)
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			c.add(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *Console) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = append(c.kept, b...)
	if over := len(c.kept) - consoleLimit; over > consoleLimit/4 {
		c.kept = append(c.kept[:0], c.kept[over:]...)
		c.gone += int64(over)
	}
}

// Text is all that is kept.
func (c *Console) Text() string { return c.Since(0) }

// Len is the number of bytes printed so far.
func (c *Console) Len() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone + int64(len(c.kept))
}

// Since is what was printed after the first n bytes.
func (c *Console) Since(n int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.kept[min(max(n-c.gone, 0), int64(len(c.kept))):])
}
