package cli

import (
	"bytes"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
)

func weirChain(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := Command()
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(args)
	c.SetOut(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// Where an agent owns the chains, the agent is asked.
func TestAgentIsAsked(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	args := []string{"--state", dir, "--pin", dir, "--socket", socket}
	out, err := weirChain(t, append(args, "list", "-o", "json")...)
	require.NoError(t, err)
	require.Equal(t, "[]\n", out)

	m, err := chain.Open(chain.Options{State: dir, Pin: dir})
	require.NoError(t, err)
	_, err = weirChain(t, append(args, "list")...)
	require.ErrorIs(t, err, chain.ErrBusy)

	s := api.New(m)
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: s}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-done, http.ErrServerClosed)
		require.NoError(t, s.Close())
	})
	out, err = weirChain(t, append(args, "list", "-o", "json")...)
	require.NoError(t, err)
	require.Equal(t, "[]\n", out)
	_, err = weirChain(t, append(args, "delete", "eth0", "xdp")...)
	require.EqualError(t, err, "the agent answers: chain eth0 xdp: there is no such chain")
}
