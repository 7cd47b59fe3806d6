package export

import (
	"slices"
	"sync"

	"github.com/weirnet/weir/agent/export/spool"
)

// queue is where blocks wait: a spool.Spool, or the memory.
type queue interface {
	Append(payload []byte, records int) error
	Peek() (payload []byte, records int, err error)
	Done() error
	Discard() error
	Ledger() spool.Ledger
	Close() error
}

// memory is a queue in memory. It works like a spool.
type memory struct {
	limit  int64 // bytes
	mu     sync.Mutex
	blocks []held
	spare  [][]byte // buffers of blocks that are gone
	ledger spool.Ledger
}

type held struct {
	payload []byte
	records int
}

// maxSpare is how many buffers are kept: a queue that was full once gives its memory back.
const maxSpare = 4

func (m *memory) Append(payload []byte, records int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := count(payload, records)
	if m.ledger.Held.Bytes+n.Bytes > uint64(m.limit) {
		m.ledger.Full.Add(n)
		return spool.ErrFull
	}
	var buf []byte
	if last := len(m.spare) - 1; last >= 0 {
		buf, m.spare = m.spare[last], m.spare[:last]
	}
	m.blocks = append(m.blocks, held{append(buf[:0], payload...), records})
	m.ledger.Written.Add(n)
	m.ledger.Held.Add(n)
	return nil
}

func (m *memory) Peek() (payload []byte, records int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.blocks) == 0 {
		return nil, 0, spool.ErrEmpty
	}
	return m.blocks[0].payload, m.blocks[0].records, nil
}

func (m *memory) Done() error    { return m.take(&m.ledger.Delivered) }
func (m *memory) Discard() error { return m.take(&m.ledger.Discarded) }

func (m *memory) take(as *spool.Count) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.blocks[0]
	n := count(first.payload, first.records)
	as.Add(n)
	m.ledger.Held = m.ledger.Held.Minus(n)
	m.blocks = slices.Delete(m.blocks, 0, 1)
	if len(m.spare) < maxSpare {
		m.spare = append(m.spare, first.payload)
	}
	return nil
}

func (m *memory) Ledger() spool.Ledger {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger
}

func (m *memory) Close() error { return nil }
