package bpf

import (
	"fmt"
	"unsafe"
)

// EventKind tells what an event carries (enum event_kind).
type EventKind uint8

// The kinds.
const (
	EventReplaced EventKind = 1 // the last of a connection that was replaced in place
	EventPacket   EventKind = 2 // a packet that found no place in the table
)

// Event is what the packet path hands to user space through the ring buffer.
type Event struct {
	Kind  EventKind
	Entry Entry
	End   uint8 // why the connection ended (IPFIX flowEndReason)
}

// Events calls fn for every event that was waiting when it began, those of an older layout first. They
// are read again until ReleaseEvents is called.
func (d *Datapath) Events(fn func(*Event) error) error {
	var event Event
	if d.older != nil && d.older.events != nil {
		err := d.older.events.Each(func(raw []byte) error {
			if err := d.older.event(&event, raw); err != nil {
				return err
			}
			return fn(&event)
		})
		if err != nil {
			return err
		}
	}
	return d.events.Each(func(raw []byte) error {
		if err := event.decode(raw); err != nil {
			return err
		}
		return fn(&event)
	})
}

// ReleaseEvents lets go of the events that the last call of Events has shown, which makes room for
// others, and lets the packet path ring the bell again.
func (d *Datapath) ReleaseEvents() error {
	if d.older != nil && d.older.events != nil {
		d.older.events.Release()
	}
	d.events.Release()
	if err := d.objs.Woken.Set(uint8(0)); err != nil {
		return fmt.Errorf("let go of events: %w", err)
	}
	return nil
}

// decode reads an event as the packet path wrote it. It refuses what is too short.
func (e *Event) decode(raw []byte) error {
	var w weirEvent
	if len(raw) < int(unsafe.Sizeof(w)) {
		return fmt.Errorf("event of %d bytes, want %d", len(raw), unsafe.Sizeof(w))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&w)), unsafe.Sizeof(w)), raw)
	e.Kind, e.End = EventKind(w.Kind), w.End
	switch w.Family {
	case 4:
		e.Entry.set4((*weirKey4)(unsafe.Pointer(&w.Key)), &w.Conn)
	case 6:
		e.Entry.set6(&w.Key, &w.Conn)
	default:
		return fmt.Errorf("event with family %d, want 4 or 6", w.Family)
	}
	return nil
}
