package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// TestMain makes this binary weir's agent when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "agent" {
		os.Exit(m.Run())
	}
	c := agent.Command()
	c.SetArgs(os.Args[2:])
	if err := c.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestEndToEnd compares for a moment. weir tells of every packet, whatever the rate.
func TestEndToEnd(t *testing.T) {
	kerneltest.NeedRoot(t)
	r, err := RunEndToEnd(t.Context(), EndToEndOptions{Rounds: 1, Time: 50 * time.Millisecond})
	require.NoError(t, err)
	require.Equal(t, "nobody", r.Observers[0].Name)
	require.Equal(t, "weir", r.Observers[1].Name)
	require.Len(t, r.Observers, 4)
	for _, o := range r.Observers {
		if o.Missing != "" {
			continue
		}
		require.Positive(t, o.Received, o.Name)
		require.Positive(t, o.Rate, o.Name)
		require.LessOrEqual(t, o.Told, o.Received, o.Name)
	}
	require.Equal(t, r.Observers[1].Received, r.Observers[1].Told)
	var out bytes.Buffer
	require.NoError(t, r.Write(&out))
	require.Regexp(t, `(?m)^weir .* exact `, out.String())
}

func TestNumber(t *testing.T) {
	n, err := number("12 packets captured\n13 packets received by filter", `(\d+) packets? captured`)
	require.NoError(t, err)
	require.Equal(t, uint64(12), n)
	_, err = number("killed", `(\d+) packets? captured`)
	require.Error(t, err)
}
