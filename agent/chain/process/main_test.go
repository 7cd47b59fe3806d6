package process_test

import (
	"os"
	"testing"

	"github.com/weirnet/weir/agent/chain/process"
)

// The test binary is also what a Supervisor executes, twice: as weir that becomes a process, and as that process.
func TestMain(m *testing.M) {
	process.Exec()
	if len(os.Args) > 1 {
		if act := process.Acts[os.Args[1]]; act != nil {
			act(os.Args[2:])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}
