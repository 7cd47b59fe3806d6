package latency

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/batch"
	"github.com/weirnet/weir/bpf/beside"
)

// Handshake is what the handshake of a TCP connection told.
type Handshake struct {
	Zone           uint16
	Client, Server netip.AddrPort
	Start          int64 // ns, of the first SYN
	// ToServer is the time from the SYN to the SYN and ACK, ToClient from there to the ACK, in
	// ns; -1 when it is not known, or could be of another packet.
	ToServer, ToClient int64
	SYNs, SYNACKs      uint32 // how often each was repeated
}

// unknown is a time that could not be measured.
const unknown = -1

// handshakeFor is how long a handshake is waited for, in ns. Linux gives up after five repeats of the
// SYN and ACK, 63 s (tcp_synack_retries).
const handshakeFor = int64(63 * time.Second)

// Handshakes is the feature handshake. Its methods may not be called concurrently.
type Handshakes struct {
	beside.Program
	objs    handshakeObjects
	events  *bpf.Ring
	memory  []byte
	pending *handshakePending
}

// OpenHandshake loads the feature.
func OpenHandshake(o Options) (*Handshakes, error) {
	spec, err := loadHandshake()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	h := &Handshakes{}
	if err := beside.Load(spec, handshakeMapHandshakes, o, &h.objs); err != nil {
		return nil, err
	}
	if h.events, err = bpf.OpenRing(h.objs.Events); err != nil {
		return nil, errors.Join(err, h.objs.Close())
	}
	h.memory, err = unix.Mmap(h.objs.Pending.FD(), 0, int(unsafe.Sizeof(*h.pending)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the slots: %w", err), h.events.Close(), h.objs.Close())
	}
	h.pending = (*handshakePending)(unsafe.Pointer(&h.memory[0]))
	h.Program, err = beside.Start(beside.Parts{Place: places[FeatureHandshake], Code: h.objs.WeirHandshake,
		Jump: h.objs.Jump, Places: h.objs.Places, Now: h.objs.VirtualNow})
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Close takes the feature out of the kernel; what was not read is lost.
func (h *Handshakes) Close() error {
	return errors.Join(h.DetachAll(), unix.Munmap(h.memory), h.events.Close(), h.objs.Close())
}

// Drain calls fn for each handshake that was completed since the last call, and for each that the
// server has answered and no ACK has completed until now: within handshakeFor, or at all when all
// is set. What fn is given is valid during the call.
func (h *Handshakes) Drain(now int64, all bool, fn func(*Handshake)) error {
	var t Handshake
	ring := h.events.Each(func(raw []byte) error {
		c, err := decodeCompleted(raw)
		if err != nil {
			return err
		}
		t = told(&c.Key, &c.Handshake)
		fn(&t)
		return nil
	})
	h.events.Release()
	var over []handshakeCompleted
	err := batch.Each(h.objs.Handshakes, func(k *handshakeHandshakeKey, s *handshakeHandshake) {
		if all || now-int64(s.Syn) > handshakeFor {
			over = append(over, handshakeCompleted{Key: *k, Handshake: *s})
		}
	})
	for i := range over {
		if h.objs.Handshakes.Delete(&over[i].Key) != nil {
			continue // a packet has completed it
		}
		s := &over[i].Handshake
		if s.Waits != 0 {
			atomic.AddUint32(&h.pending.Waiting[s.Slot], ^uint32(0))
		}
		if s.SynAck != 0 {
			t = told(&over[i].Key, s)
			fn(&t)
		}
	}
	if err := errors.Join(ring, err); err != nil {
		return fmt.Errorf("read the handshakes: %w", err)
	}
	return nil
}

// Lost returns how many handshakes found no room in the table, or in the ring buffer, since the feature
// was opened.
func (h *Handshakes) Lost() (uint64, error) {
	var table, ring uint64
	if err := errors.Join(h.objs.TableFull.Get(&table), h.objs.RingFull.Get(&ring)); err != nil {
		return 0, fmt.Errorf("read the losses: %w", err)
	}
	return table + ring, nil
}

// decodeCompleted reads a handshake as the program wrote it. It refuses what it cannot have written.
func decodeCompleted(raw []byte) (*handshakeCompleted, error) {
	var c handshakeCompleted
	if len(raw) < int(unsafe.Sizeof(c)) {
		return nil, fmt.Errorf("handshake of %d bytes, want %d", len(raw), unsafe.Sizeof(c))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), unsafe.Sizeof(c)), raw)
	if f := c.Key.Family; f != 4 && f != 6 {
		return nil, fmt.Errorf("handshake with family %d, want 4 or 6", f)
	}
	return &c, nil
}

// told judges which times are known. Of a packet that was repeated nobody knows which one was answered
// (P. Karn and C. Partridge, "Improving Round-Trip Time Estimates in Reliable Transport
// Protocols", 1987).
func told(k *handshakeHandshakeKey, s *handshakeHandshake) Handshake {
	h := Handshake{Zone: k.Zone, Client: endpoint(k.Family, &k.Client, k.ClientPort),
		Server: endpoint(k.Family, &k.Server, k.ServerPort), Start: int64(s.Syn),
		ToServer: unknown, ToClient: unknown, SYNs: s.Syns, SYNACKs: s.SynAcks}
	if s.EarlySyns == 0 {
		h.ToServer = int64(s.SynAck - s.Syn)
	}
	if s.SynAcks == 0 && s.Ack != 0 && s.Data == 0 {
		h.ToClient = int64(s.Ack - s.SynAck)
	}
	return h
}
