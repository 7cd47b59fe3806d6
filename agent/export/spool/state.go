package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	stateMagic = "weirstat"
	stateSlot  = 8 + 3*8 + 6*16 + 4
)

// place is where a block begins.
type place struct {
	segment uint64
	offset  int64
}

// state is what is known of the blocks that are not in the spool any more.
type state struct {
	generation uint64
	at         place // of the next block to read
	read       Count // delivered
	discarded  Count // given up by the reader
	damaged    Count // lost to what has happened to the files
	// never taken, by reason
	full, diskFull, failed Count
}

func (s *state) counts() [6]*Count {
	return [...]*Count{&s.read, &s.discarded, &s.damaged, &s.full, &s.diskFull, &s.failed}
}

// gone is what was in the spool and is not any more.
func (s *state) gone() Count {
	sum := s.read
	sum.Add(s.discarded)
	sum.Add(s.damaged)
	return sum
}

func (s *state) put(to []byte) {
	copy(to, stateMagic)
	binary.LittleEndian.PutUint64(to[8:], s.generation)
	binary.LittleEndian.PutUint64(to[16:], s.at.segment)
	binary.LittleEndian.PutUint64(to[24:], uint64(s.at.offset))
	for i, c := range s.counts() {
		putCount(to[32+16*i:], *c)
	}
	seal(to[:stateSlot])
}

func parseState(from []byte) (state, bool) {
	if len(from) < stateSlot || string(from[:8]) != stateMagic || !sealed(from[:stateSlot]) {
		return state{}, false
	}
	s := state{
		generation: binary.LittleEndian.Uint64(from[8:]),
		at: place{binary.LittleEndian.Uint64(from[16:]),
			int64(binary.LittleEndian.Uint64(from[24:]))},
	}
	for i, c := range s.counts() {
		*c = getCount(from[32+16*i:])
	}
	return s, s.at.offset >= 0
}

// newest chooses between the two slots: one may be torn, as its writer was killed.
func newest(file []byte) (state, bool) {
	var best state
	found := false
	for slot := range 2 {
		from := slot * stateSlot
		if len(file) < from+stateSlot {
			break
		}
		s, ok := parseState(file[from:])
		if ok && (!found || s.generation > best.generation) {
			best, found = s, true
		}
	}
	return best, found
}

// openState opens the state file, or makes one. known is false when there is one, but damaged.
func openState(path string) (file *os.File, s state, known bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, state{}, false, err
	}
	data, err := io.ReadAll(io.LimitReader(f, 2*stateSlot))
	if err != nil {
		f.Close()
		return nil, state{}, false, fmt.Errorf("read the state: %w", err)
	}
	s, known = newest(data)
	if len(data) > 0 {
		return f, s, known, nil
	}
	for range 2 { // both slots exist from the start: later writes need no room on the disk
		if err := s.save(f, make([]byte, stateSlot)); err != nil {
			return nil, state{}, false, errors.Join(fmt.Errorf("make the state: %w", err), f.Close())
		}
	}
	return f, s, true, nil
}

// save writes the slot that is not the newest.
func (s *state) save(f *os.File, buf []byte) error {
	s.generation++
	s.put(buf[:stateSlot])
	_, err := f.WriteAt(buf[:stateSlot], int64(s.generation%2)*stateSlot)
	return err
}
