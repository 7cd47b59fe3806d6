package cli

import (
	"bytes"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
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

// A watcher tells each state of a chain once.
func TestWatcher(t *testing.T) {
	var out strings.Builder
	w := &watcher{out: &out}
	k := chain.Key{Interface: "eth0", Hook: hook.XDP}
	runs := chain.Status{Key: k, Backend: "xdp-link", Generation: 1,
		Members: []chain.MemberStatus{{Name: "m", Priority: 5, Object: "/m.o", Program: 7}, {Name: "flows", Priority: 6, Stage: "flow", Program: 8},
			{Name: "off", Object: "/o.o", Disabled: true}},
		Before: []hook.Program{{ID: 3, Name: "other"}}}
	detached := runs
	detached.Drift, detached.Before = chain.Detached, nil
	detached.Members = []chain.MemberStatus{{Name: "m", Object: "/m.o"}}
	for _, step := range []struct {
		all  map[chain.Key]chain.Status
		want string
	}{
		{map[chain.Key]chain.Status{}, ""},
		{map[chain.Key]chain.Status{k: runs}, "eth0 xdp (xdp-link): generation 1, as applied\n" +
			"  another owner's other (program 3)\n  m: priority 5, program 7, /m.o\n  flows: priority 6, program 8, weir's stage flow\n  off: priority 0, disabled, /o.o\n"},
		{map[chain.Key]chain.Status{k: runs}, ""},
		{map[chain.Key]chain.Status{k: detached}, "eth0 xdp (xdp-link): generation 1, detached\n" +
			"  m: priority 0, does not run, /m.o\n"},
		{map[chain.Key]chain.Status{}, "eth0 xdp (-): generation 0, deleted\n"},
		{map[chain.Key]chain.Status{}, ""},
	} {
		require.NoError(t, w.changed(step.all))
		require.Equal(t, step.want, out.String())
		out.Reset()
	}
}

func TestGet(t *testing.T) {
	dir := t.TempDir()
	_, err := weirChain(t, "--state", dir, "--pin", dir, "get", "eth0", "xdp")
	require.ErrorIs(t, err, chain.ErrUnknown)
	_, err = weirChain(t, "get", "eth0", "nowhere")
	require.ErrorContains(t, err, "want xdp, tc-ingress or tc-egress")
}
