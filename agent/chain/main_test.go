package chain_test

import (
	"os"
	"testing"

	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/vmtests/gotest"
)

// TestMain makes this test binary the init of guests, and a weir that is killed in an apply.
func TestMain(m *testing.M) {
	process.Exec()
	gotest.Guest()
	if os.Getenv(victimStage) != "" {
		victim()
	}
	os.Exit(m.Run())
}

// TestKernels runs the tests of chains on other kernels.
func TestKernels(t *testing.T) {
	gotest.OnKernels(t, gotest.Tests{Names: guestTests, Programs: []string{"/bin/sh", "sleep"}})
}

// guestTests are the tests that depend on the kernel.
var guestTests = []string{"TestApply", "TestWirings", "TestRandomChains", "TestFailedApply", "TestKilledApply", "TestRestoreKilled",
	"TestForeign", "TestDrift", "TestState", "TestMaps", "TestTwoInterfaces", "TestFullDisk", "TestAPI", "TestL3afd", "TestSwapUnderLoad",
	"TestLinks", "TestLinksRefused", "TestLinksUnderLoad", "TestLinksIncomplete", "TestLinksKilled", "TestReadings",
	"TestProcesses", "TestProcessRefused", "TestProcessesRestored", "TestStages", "TestStagesUnderLoad", "TestStagesRefused"}
