package agent

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// asAgent is the environment variable that makes the test binary an agent: its value is the
// configuration file.
const asAgent = "WEIR_TEST_AGENT"

func TestMain(m *testing.M) {
	if file := os.Getenv(asAgent); file != "" {
		c := Command()
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
