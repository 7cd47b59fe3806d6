package program_test

import (
	"os"
	"testing"

	"github.com/weirnet/weir/vmtests/gotest"
)

// TestMain makes this test binary the init of guests.
func TestMain(m *testing.M) {
	gotest.Guest()
	os.Exit(m.Run())
}

// TestKernels runs the tests of generations on other kernels.
func TestKernels(t *testing.T) {
	gotest.OnKernels(t, gotest.Tests{Names: []string{"TestForms", "TestVerdicts", "TestBrokenChain", "TestFirstGone",
		"TestVerifyDispatcher", "TestResize", "TestProbe", "TestPin"}})
}
