package bpf

import (
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// These tests feed the decoders of what the kernel hands over with bytes that it never would.
// No decoder may panic, read beyond what it was given, or show what cannot be.

func FuzzEventDecode(f *testing.F) {
	size := int(unsafe.Sizeof(weirEvent{}))
	for _, family := range []byte{0, 4, 6, 255} {
		raw := make([]byte, size)
		raw[0], raw[1] = byte(EventReplaced), family
		f.Add(raw)
	}
	f.Add(make([]byte, size-1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e, again Event
		err := e.decode(raw)
		if len(raw) < size {
			require.Error(t, err)
			return
		}
		require.Equal(t, raw[1] != 4 && raw[1] != 6, err != nil)
		if err != nil {
			return
		}
		require.NoError(t, again.decode(append([]byte(nil), raw...)))
		require.Equal(t, e, again)
		checkEntry(t, &e.Entry)
	})
}

// checkEntry checks what holds for an entry whatever it was made of.
func checkEntry(t *testing.T, e *Entry) {
	t.Helper()
	require.Contains(t, []uint8{4, 6}, e.Family)
	for _, a := range e.Addr {
		require.Equal(t, e.Family == 4, a.Is4())
	}
	require.LessOrEqual(t, e.Initiator, uint8(UnknownInitiator))
	if e.ICMPID|uint16(e.ICMPType)|uint16(e.ICMPCode) != 0 {
		require.Equal(t, [2]uint16{}, e.Port)
	}
	require.GreaterOrEqual(t, e.Last(), e.Legs[0].Last)
	require.GreaterOrEqual(t, e.Last(), e.Legs[1].Last)
}

// bytesFor returns raw cut or filled up with zeros to the size of a T, as its bytes.
func bytesFor[T any](raw []byte) *T {
	var v T
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), raw)
	return &v
}

// FuzzEntry makes entries of table keys and values.
func FuzzEntry(f *testing.F) {
	f.Add(make([]byte, 16), make([]byte, 176))
	f.Add([]byte{10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 0, 81, 7, 0, 6, 0}, []byte{1, 2, 3})
	f.Add([]byte{15: 1, 36: 0, 38: 58, 39: 0}, []byte{0: 255, 200: 255})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var e4, e6 Entry
		c := bytesFor[weirConn](value)
		e4.set4(bytesFor[weirKey4](key), c)
		e6.set6(bytesFor[weirKey6](key), c)
		checkEntry(t, &e4)
		checkEntry(t, &e6)
		require.Equal(t, e4.Legs, e6.Legs)
		// Work items carry the key back into the kernel: it must be the one that was read.
		var w weirWork
		k := e6.Key()
		w.setKey(&k)
		require.Equal(t, *bytesFor[weirKey6](key), w.Key)
		k = e4.Key()
		w.setKey(&k)
		require.Equal(t, *bytesFor[weirKey4](key), *(*weirKey4)(unsafe.Pointer(&w.Key)))
	})
}

// fakeRing is a ring buffer in plain memory whose data, as the kernel maps it, stands there twice.
func fakeRing(data []byte, consumer, producer uint64) *Ring {
	page := os.Getpagesize()
	const size = 4096
	r := &Ring{consumer: make([]byte, page), producer: make([]byte, page+2*size), size: size}
	r.data = r.producer[page:]
	copy(r.data[:size], data)
	// A busy record would be waited for: the packet path is about to finish it.
	for at := 3; at < size; at += 8 {
		r.data[at] &^= ringBusy >> 24
	}
	copy(r.data[size:], r.data[:size])
	*position(r.consumer), *position(r.producer) = consumer, producer
	return r
}

// FuzzRing reads ring buffers of any content. Positions are multiples of 8 and at most one
// buffer apart, as the kernel keeps them.
func FuzzRing(f *testing.F) {
	record := func(b []byte, flags, length uint32) []byte {
		b = binary.LittleEndian.AppendUint32(b, length|flags)
		return append(b, make([]byte, 4+(length+7)&^7)...)
	}
	two := record(record(nil, 0, 5), 0, 16)
	f.Add(two, uint64(0), uint16(len(two)))
	f.Add(record(nil, ringDiscard, 24), uint64(0), uint16(32))
	f.Add([]byte{4091: 0x10}, uint64(4088), uint16(4096)) // 256 MiB long
	f.Add([]byte{}, uint64(1<<40), uint16(64))
	f.Fuzz(func(t *testing.T, data []byte, from uint64, waiting uint16) {
		from = from % (1 << 50) &^ 7
		length := min(uint64(waiting), 4096) &^ 7
		r := fakeRing(data, from, from+length)
		total, records := 0, 0
		count := func(raw []byte) error {
			total += len(raw)
			records++
			var e Event
			_ = e.decode(raw)
			return nil
		}
		err := r.Each(count)
		require.LessOrEqual(t, uint64(total+records*ringHeader), length)
		require.GreaterOrEqual(t, r.read, from)
		require.LessOrEqual(t, r.read, from+length)
		if err == nil {
			require.Equal(t, from+length, r.read)
		}
		// Nothing is given back before release, and then all that was shown.
		require.Equal(t, from, *position(r.consumer))
		before := records
		require.Equal(t, err != nil, r.Each(count) != nil)
		require.Equal(t, 2*before, records)
		r.Release()
		require.Equal(t, r.read, *position(r.consumer))
	})
}

// FuzzCounters adds up counters of a hook, of two CPUs.
func FuzzCounters(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{255, 48: 1})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one, two := bytesFor[weirHookStats](a), bytesFor[weirHookStats](b)
		var sum, reverse Counters
		sum.add(one)
		sum.add(two)
		reverse.add(two)
		reverse.add(one)
		require.Equal(t, reverse, sum)
		for reason := range sum.Lost {
			require.Contains(t, Reasons(), reason)
		}
	})
}
