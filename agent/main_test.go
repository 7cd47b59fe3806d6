package agent_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
	if ends := os.Getenv(agent.AsSender); ends != "" {
		if err := agent.SendDatagram(ends); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
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

// TestKernels runs the tests of what may not be lost, whatever comes over an agent, on other kernels.
func TestKernels(t *testing.T) {
	gotest.OnKernels(t, gotest.Tests{Names: guestTests, Flags: []string{
		"-patience=60s", // an agent's start takes an emulated CPU under load 10 s and more
		fmt.Sprintf("-rounds=%d", agent.ChurnRounds),
	}})
}

// guestTests are those that docs/operating.md names, and of what sweeps may not lose.
var guestTests = []string{"TestConservationUnderLoad", "TestChurn", "TestInterruptedSweep",
	"TestSinkDownThenBack", "TestStopWithSlowSink", "TestSinkHangs", "TestStopUnderLoad", "TestKillAndAdopt",
	"TestKillWithSpool", "TestSpoolDiskFull", "TestInterfaceChurn", "TestNamespaceChurn", "TestTwoAgents",
	"TestOneAgentPerSocket", "TestOneAgentPerPinFolder", "TestDedupeOfTwoAgents"}

// TestWhatItComesThrough checks that each row of docs/operating.md names tests that run on all kernels.
func TestWhatItComesThrough(t *testing.T) {
	page, err := os.ReadFile("../docs/operating.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "## What it comes through")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile(`(?m)^\| .* \| (.*) \|$`).FindAllStringSubmatch(table, -1)[1:]
	require.Len(t, rows, 12)
	for _, r := range rows {
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(r[1], -1)
		require.NotEmpty(t, named, r[0])
		for _, n := range named {
			require.Contains(t, guestTests, n[1])
		}
	}
}
