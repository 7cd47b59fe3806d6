package agent

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
	chainprocess "github.com/weirnet/weir/agent/chain/process"
	"github.com/weirnet/weir/agent/privileges"
	"github.com/weirnet/weir/bpf/chain/member"
)

// TestChains applies a chain through the agent. It stays when the agent ends, and the next agent puts it
// back when it has gone, as after a boot; unless its object is another one by then.
func TestChains(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	cfg.Chains = &Chains{State: t.TempDir(), Pin: pinFolder(t)}
	object := filepath.Join(t.TempDir(), "member.o")
	require.NoError(t, os.WriteFile(object, member.Object(), 0o600))
	spec := &chain.Spec{Chains: []chain.Chain{{
		Key:     chain.Key{Namespace: p.far, Interface: farName, Hook: hook.Ingress},
		Members: []chain.Member{{Name: "m", Object: object, Program: "tc_member"}},
	}}}
	client := api.Dial(t.Context(), cfg.Control)
	start := func() (stop func() error, log *bytes.Buffer) {
		log = &bytes.Buffer{}
		a, err := New(cfg, Options{Sink: newLedger(), Log: slog.New(slog.NewTextHandler(log, nil))})
		require.NoError(t, err)
		stop = run(t, a)
		eventually(t, "the agent to answer", func() bool {
			_, err := client.List()
			return err == nil
		})
		return stop, log
	}
	drift := func() chain.Drift {
		all, err := client.List()
		require.NoError(t, err)
		require.Len(t, all, 1)
		return all[0].Drift
	}
	reboot := func() { require.NoError(t, os.RemoveAll(cfg.Chains.Pin)) } // what was pinned goes

	stop, _ := start()
	_, err := chain.Open(chain.Options{State: cfg.Chains.State, Pin: cfg.Chains.Pin})
	require.ErrorIs(t, err, chain.ErrBusy)
	changes, err := client.Apply(spec, chain.ApplyOptions{})
	require.NoError(t, err)
	require.Equal(t, uint64(1), changes[0].To)
	require.NoError(t, stop())

	require.NoError(t, os.Rename(object, object+"-")) // what runs needs it no more
	stop, log := start()
	require.Contains(t, log.String(), "chain runs")
	require.NoError(t, os.Rename(object+"-", object))
	require.Equal(t, chain.None, drift())
	require.NoError(t, stop())

	reboot()
	stop, log = start()
	require.Contains(t, log.String(), "chain restored")
	require.Equal(t, chain.None, drift())
	require.NoError(t, stop())

	reboot()
	require.NoError(t, os.WriteFile(object, append(member.Object(), 0), 0o600))
	stop, log = start()
	require.Contains(t, log.String(), "member m: its object is another than the one that was applied")
	require.Equal(t, chain.Detached, drift())
	_, err = client.Apply(spec, chain.ApplyOptions{}) // somebody says that it shall be so
	require.NoError(t, err)
	require.Equal(t, chain.None, drift())
	_, err = client.Delete(chain.ApplyOptions{}, spec.Chains[0].Key)
	require.NoError(t, err)
	require.NoError(t, stop())
}

// TestChainMetrics scrapes an agent that owns a chain.
func TestChainMetrics(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	cfg.Monitor.Address = freePort(t)
	cfg.Chains = &Chains{State: t.TempDir(), Pin: pinFolder(t)}
	object := filepath.Join(t.TempDir(), "member.o")
	require.NoError(t, os.WriteFile(object, member.Object(), 0o600))
	a, err := New(cfg, Options{Sink: newLedger()})
	require.NoError(t, err)
	stop := run(t, a)
	client := api.Dial(t.Context(), cfg.Control)
	eventually(t, "the agent to answer", func() bool {
		_, err := client.List()
		return err == nil
	})
	_, err = client.Apply(&chain.Spec{Chains: []chain.Chain{{
		Key: chain.Key{Namespace: p.far, Interface: farName, Hook: hook.Ingress},
		Members: []chain.Member{{Name: "m", Object: object, Program: "tc_member",
			Metrics: []chain.Metric{{Map: "seen"}, {Map: "seen", As: chain.AsMaxRate}}}},
	}}}, chain.ApplyOptions{})
	require.NoError(t, err)
	labels := fmt.Sprintf(`hook="tc-ingress",interface="%s"`, farName)
	var text []byte
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last metrics: %s", text)
		}
	})
	for _, want := range []string{
		`weir_chain_generation{` + labels, `weir_chain_as_applied{` + labels, `weir_chain_members{` + labels,
		`weir_chain_map{as="value",` + labels + `,key="0",map="seen",member="m"`,
		`weir_chain_map{as="max-rate",` + labels,
	} {
		eventually(t, want, func() bool {
			resp, err := http.Get("http://" + cfg.Monitor.Address + "/metrics")
			require.NoError(t, err)
			defer resp.Body.Close()
			text, err = io.ReadAll(resp.Body)
			require.NoError(t, err)
			return strings.Contains(string(text), want)
		})
	}
	require.NoError(t, stop())
}

// TestChainProcess has an agent that has given up its privileges start and end the process of a member.
func TestChainProcess(t *testing.T) {
	p := newPair(t)
	cfg := p.pinned(t)
	cfg.Chains = &Chains{State: t.TempDir(), Pin: pinFolder(t), Processes: Processes{Allow: true}}
	folder := t.TempDir()
	object := filepath.Join(folder, "member.o")
	require.NoError(t, os.WriteFile(object, member.Object(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "part"), []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700))
	agent := startProcess(t, cfg)
	agent.confined(t, append(privileges.Keep(true), cfg.processes().Needs()...))
	client := api.Dial(t.Context(), cfg.Control)
	spec := &chain.Spec{Chains: []chain.Chain{{
		Key: chain.Key{Namespace: p.far, Interface: farName, Hook: hook.Ingress},
		Members: []chain.Member{{Name: "m", Object: object, Program: "tc_member",
			Process: &chainprocess.Spec{Command: "part", User: "54321", Group: "54321"}}},
	}}}
	_, err := client.Apply(spec, chain.ApplyOptions{})
	require.NoError(t, err)
	pid := 0
	eventually(t, "the process to run", func() bool {
		all, err := client.List()
		require.NoError(t, err)
		pid = all[0].Members[0].Process.PID
		return pid != 0
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	require.Contains(t, string(status), "\nUid:\t54321\t54321\t54321\t54321\n")
	require.Contains(t, string(status), "\nCapBnd:\t0000000000000000\n")
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	require.NoError(t, err)
	agent.end(t)
	require.NoDirExists(t, fmt.Sprintf("/proc/%d", pid))
	if m := regexp.MustCompile(`weir-chains-\w+`).Find(groups); m != nil { // its folders stay, empty
		left, err := filepath.Glob("/sys/fs/cgroup/*/" + string(m))
		require.NoError(t, err)
		for _, dir := range left {
			require.NoError(t, os.Remove(dir))
		}
	}
}
