package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Of linux/bpf.h: each record begins with its length, whose upper bits say whether it is still
// being written, or is to be skipped.
const (
	ringHeader  = 8       // BPF_RINGBUF_HDR_SZ
	ringBusy    = 1 << 31 // BPF_RINGBUF_BUSY_BIT
	ringDiscard = 1 << 30 // BPF_RINGBUF_DISCARD_BIT
)

// Ring reads a ring buffer map. Unlike the library's reader it gives room back only when told to,
// so that a record whose reader is killed is read again by the next one, and it reads no further
// than what was there when it began: a busy packet path would never let it come to the end.
type Ring struct {
	consumer []byte // a page whose first word is ours to write
	producer []byte // a page whose first word the kernel writes, then the data, mapped twice
	data     []byte
	size     uint64
	read     uint64 // position up to which records were read
}

// OpenRing maps the memory of a ring buffer map.
func OpenRing(m *ebpf.Map) (*Ring, error) {
	page, size := os.Getpagesize(), int(m.MaxEntries())
	consumer, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the consumer's page: %w", err)
	}
	producer, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the data: %w", err), unix.Munmap(consumer))
	}
	return &Ring{consumer: consumer, producer: producer, data: producer[page:], size: uint64(size)}, nil
}

// Close unmaps the memory.
func (r *Ring) Close() error {
	return errors.Join(unix.Munmap(r.consumer), unix.Munmap(r.producer))
}

func position(page []byte) *uint64 { return (*uint64)(unsafe.Pointer(&page[0])) }

// Each calls fn for every record that is waiting now, from the first one that was not given back.
// What it is given is valid until Release.
func (r *Ring) Each(fn func([]byte) error) error {
	r.read = atomic.LoadUint64(position(r.consumer))
	for end := atomic.LoadUint64(position(r.producer)); r.read < end; {
		header := r.header(r.read)
		length := uint64(header &^ (ringBusy | ringDiscard))
		next := r.read + (ringHeader+length+7)&^7
		if next > end || length > r.size {
			return fmt.Errorf("ring buffer record of %d bytes at %d, beyond the end at %d", length, r.read, end)
		}
		if header&ringDiscard == 0 {
			at := r.read%r.size + ringHeader
			if err := fn(r.data[at : at+length]); err != nil {
				return err
			}
		}
		r.read = next
	}
	return nil
}

// header returns the first word of the record at a position, once it is written: another CPU
// is about to, for the packet path holds no record while it does anything else.
func (r *Ring) header(at uint64) uint32 {
	word := (*uint32)(unsafe.Pointer(&r.data[at%r.size]))
	for {
		if h := atomic.LoadUint32(word); h&ringBusy == 0 {
			return h
		}
		runtime.Gosched()
	}
}

// Release gives back the room of all records that Each has shown.
func (r *Ring) Release() { atomic.StoreUint64(position(r.consumer), r.read) }
