// Package sinktest is what the tests of sinks share.
package sinktest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export"
)

// Open opens a sink by the function of its package, with options that must be right. It is closed when the
// test ends.
func Open[O any, P interface {
	*O
	Check() error
}, S export.Sink](t testing.TB, open func(O) (S, error), o O) S {
	t.Helper()
	require.NoError(t, P(&o).Check())
	s, err := open(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}
