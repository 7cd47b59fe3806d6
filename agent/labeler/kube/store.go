package kube

import (
	"fmt"
	"sync/atomic"
)

// store is where a reflector of client-go puts objects. It passes them on and keeps nothing: what
// is to be kept, the cluster keeps.
type store[T any] struct {
	set  func(o *T, now int64)
	gone func(o *T, now int64)
	// keep is told the keys of all that are there, after a list: others have gone unseen.
	keep func(keys map[string]bool, now int64)
	key  func(o *T) string
	now  func() int64

	synced   chan struct{} // closed after the first list
	isSynced atomic.Bool
}

// Add implements cache.ReflectorStore, as do the others.
func (s *store[T]) Add(o any) error { return s.with(o, s.set) }

// Update is Add: an object is told in full.
func (s *store[T]) Update(o any) error { return s.with(o, s.set) }

// Delete tells that an object is gone.
func (s *store[T]) Delete(o any) error { return s.with(o, s.gone) }

func (s *store[T]) with(o any, do func(*T, int64)) error {
	t, ok := o.(*T)
	if !ok {
		return fmt.Errorf("%T; want %T", o, t)
	}
	do(t, s.now())
	return nil
}

// Replace tells of all objects that there are.
func (s *store[T]) Replace(all []any, _ string) error {
	keys := make(map[string]bool, len(all))
	for _, o := range all {
		t, ok := o.(*T)
		if !ok {
			return fmt.Errorf("%T; want %T", o, t)
		}
		keys[s.key(t)] = true
		s.set(t, s.now())
	}
	s.keep(keys, s.now())
	if s.isSynced.CompareAndSwap(false, true) {
		close(s.synced)
	}
	return nil
}

// Resync has nothing to do: nothing is kept that could be told again.
func (s *store[T]) Resync() error { return nil }
