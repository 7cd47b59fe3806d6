package agent_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/vmtests/gotest"
	"github.com/weirnet/weir/vmtests/kernel"
)

func TestMain(m *testing.M) {
	gotest.Guest()
	if file := os.Getenv(agent.AsAgent); file != "" {
		_ = os.Unsetenv(agent.AsAgent) // it is no key of the configuration
		c := agent.Command()
		c.SetArgs([]string{"--config", file})
		c.SilenceUsage = true
		if err := c.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestKernels runs tests of conservation on other kernels.
func TestKernels(t *testing.T) {
	gotest.OnKernels(t, []string{"5.10", "6.1", "6.12", kernel.Newest},
		[]string{"TestConservationUnderLoad", "TestChurn", "TestInterruptedSweep"})
}
