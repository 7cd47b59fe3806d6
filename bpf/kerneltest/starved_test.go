package kerneltest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// logs is a test whose log is kept.
type logs struct {
	testing.TB
	text string
}

func (l *logs) Helper() {}

func (l *logs) Logf(format string, args ...any) {
	l.text += "    process_test.go:447: " + fmt.Sprintf(format, args...) + "\n"
}

func TestStarved(t *testing.T) {
	l := &logs{}
	Starved(l, 105)
	l.Logf("child 7")
	Starved(l, 9)
	require.Equal(t, []int{105, 9}, StarvedIn("=== RUN   TestMemory\n"+l.text+"--- PASS: TestMemory (4.29s)\n"))
	require.Empty(t, StarvedIn("a_test.go:1: Memory cgroup out of memory: Killed process 7 (weir)\n"))
}
