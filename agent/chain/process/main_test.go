package process_test

import (
	"os"
	"testing"

	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/vmtests/gotest"
)

// The test binary is also what a Supervisor executes, twice: as weir that becomes a process, and as that process.
func TestMain(m *testing.M) {
	process.Exec()
	gotest.Guest()
	if len(os.Args) > 1 {
		if act := process.Acts[os.Args[1]]; act != nil {
			act(os.Args[2:])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// TestKernels runs the tests of processes on other kernels.
func TestKernels(t *testing.T) {
	gotest.OnKernels(t, gotest.Tests{Names: []string{"TestInside", "TestCapabilities", "TestStubborn", "TestWholeGroup",
		"TestKilledSupervisor", "TestCPU", "TestMemory", "TestPIDs", "TestRestart", "TestBackoffResets", "TestPolicies",
		"TestPause", "TestScript"}, Flags: []string{"-test.timeout=60s"}, Programs: []string{"/bin/sh", "/bin/sleep", "id"}})
}
