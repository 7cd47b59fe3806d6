package agent_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/privileges"
	"github.com/weirnet/weir/vmtests/gotest"
)

// confine takes all capabilities but those that are named.
func confine(names string) error {
	var keep []cap.Value
	for name := range strings.FieldsSeq(names) {
		v, err := cap.FromName(name)
		if err != nil {
			return err
		}
		keep = append(keep, v)
	}
	return privileges.Drop(keep)
}

func TestMain(m *testing.M) {
	process.Exec()
	gotest.Guest()
	if file := os.Getenv(agent.AsAgent); file != "" {
		if names := os.Getenv(agent.WithCaps); names != "" {
			if err := confine(names); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		_ = os.Unsetenv(agent.WithCaps) // they are no keys of the configuration
		_ = os.Unsetenv(agent.AsAgent)
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
	gotest.OnKernels(t, []string{"TestConservationUnderLoad", "TestChurn", "TestInterruptedSweep"})
}
