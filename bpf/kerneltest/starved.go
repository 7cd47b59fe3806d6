package kerneltest

import (
	"fmt"
	"strings"
	"testing"
)

// starving is what the log of a test says of a process.
const starving = "killed for want of memory, as it was to be: process %d"

// Starved says in the log of a test that the kernel has killed a process for the limit of its control group, which is
// what the test wants. What the kernel logs then looks like what it logs when something has gone wrong.
func Starved(t testing.TB, pid int) {
	t.Helper()
	t.Logf(starving, pid)
}

// StarvedIn are the processes, in the log of tests, that Starved was told of.
func StarvedIn(log string) (pids []int) {
	for line := range strings.Lines(log) {
		_, said, _ := strings.Cut(line, ": ") // file and line of the test come first
		var pid int
		if _, err := fmt.Sscanf(said, starving, &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
