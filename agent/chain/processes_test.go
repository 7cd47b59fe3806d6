package chain_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/chain"
	"github.com/weirnet/weir/agent/chain/api"
	"github.com/weirnet/weir/agent/chain/hook"
	"github.com/weirnet/weir/agent/chain/process"
)

const nobody = "54321"

// serveProcesses is a server that may have processes.
func serveProcesses(t testing.TB, b *bed) caller {
	return serve(t, chain.Options{State: b.state, Pin: b.pin, Processes: process.Rules{Allow: true},
		Log: slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))})
}

// sleeper puts a script beside the bed's object that does nothing, and tells its text apart.
func (b *bed) sleeper(text string) {
	b.t.Helper()
	script := fmt.Sprintf("#!/bin/sh\n# %s\nexec sleep 1000\n", text)
	require.NoError(b.t, os.WriteFile(filepath.Join(filepath.Dir(b.object), "sleeper"), []byte(script), 0o700))
}

// withProcess is a member with a process.
func (b *bed) withProcess(number int) chain.Member {
	m := b.member(hook.Ingress, number, number, hook.TCOk, 1)
	m.Process = &process.Spec{Command: "sleeper", User: nobody, Group: nobody}
	return m
}

// processes are what members' processes do, by the members' names.
func (c caller) processes() map[string]process.Status {
	c.t.Helper()
	all := map[string]process.Status{}
	require.NoError(c.t, c.server.Do(func(m *chain.Manager) error {
		for _, s := range m.List() {
			for _, x := range s.Members {
				if x.Process != nil {
					all[x.Name] = *x.Process
				}
			}
		}
		return nil
	}))
	return all
}

// running waits until so many processes run.
func (c caller) running(count int) map[string]process.Status {
	c.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		all, n := c.processes(), 0
		for _, p := range all {
			if p.State == process.Running {
				n++
			}
		}
		if n == count {
			return all
		}
		require.True(c.t, time.Now().Before(end), "%+v", all)
	}
}

func gone(t testing.TB, pid int) {
	t.Helper()
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Processes come with their members, go with them, and are replaced when they are other ones, and only then.
func TestProcesses(t *testing.T) {
	b := newBed(t)
	b.sleeper("first")
	c := serveProcesses(t, b)
	apply := func(members ...chain.Member) api.Item {
		t.Helper()
		status, a := c.ask(http.MethodPost, "/apply", "", api.Order{Spec: chain.Spec{Chains: []chain.Chain{
			b.chain(hook.Ingress, hook.TC, members...)}}})
		require.Equal(t, http.StatusOK, status, a.Error)
		return a.Items[0]
	}
	one, two := b.withProcess(1), b.withProcess(2)

	item := apply(one, two)
	require.Equal(t, []chain.ProcessStep{{Op: chain.StartProcess, Member: "m01"}, {Op: chain.StartProcess, Member: "m02"}}, item.Change.Processes)
	first := c.running(2)
	require.Equal(t, api.Unchanged, apply(one, two).Result)

	one.Process = &process.Spec{Command: "sleeper", User: nobody, Group: nobody, Env: map[string]string{"A": "b"}}
	item = apply(one, two)
	require.Equal(t, []chain.ProcessStep{{Op: chain.ReplaceProcess, Member: "m01"}}, item.Change.Processes)
	require.Equal(t, item.Change.From, item.Change.To, "the programs are the same")
	second := c.running(2)
	gone(t, first["m01"].PID)
	require.Equal(t, first["m02"], second["m02"])

	one.Constants = map[string]int64{"member": 1, "generation": 9, "verdict": 0} // another program, the same process
	require.Equal(t, api.Changed, apply(one, two).Result)
	require.Equal(t, second, c.running(2))

	item = apply(two)
	require.Equal(t, []chain.ProcessStep{{Op: chain.StopProcess, Member: "m01"}}, item.Change.Processes)
	gone(t, second["m01"].PID)
	require.Equal(t, second["m02"], c.running(1)["m02"])

	b.sleeper("second") // the same name, another file
	require.Equal(t, api.Changed, apply(two).Result)
	gone(t, second["m02"].PID)

	key := b.chain(hook.Ingress, "").Key
	status, _ := c.ask(http.MethodPost, "/stop", "", api.ProcessOf{Key: key, Member: "m02"})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, process.Stopped, c.processes()["m02"].State)
	require.Equal(t, api.Unchanged, apply(two).Result)
	status, _ = c.ask(http.MethodPost, "/start", "", api.ProcessOf{Key: key, Member: "m02"})
	require.Equal(t, http.StatusOK, status)
	last := c.running(1)["m02"]
	status, a := c.ask(http.MethodPost, "/stop", "", api.ProcessOf{Key: key, Member: "m03"})
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, a.Error, "there is no such process")

	status, _ = c.ask(http.MethodPost, "/delete", "", api.Deletion{Chains: []chain.Key{key}})
	require.Equal(t, http.StatusOK, status)
	gone(t, last.PID)
}

// What cannot be started is found before anything changes.
func TestProcessRefused(t *testing.T) {
	b := newBed(t)
	b.sleeper("good")
	folder := filepath.Dir(b.object)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "plain"), []byte("#!/bin/sh\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "text"), []byte("text"), 0o700))
	require.NoError(t, os.Symlink("/bin/sh", filepath.Join(folder, "out")))
	c := serveProcesses(t, b)
	order := func(p *process.Spec) api.Order {
		m := b.withProcess(1)
		m.Process = p
		return api.Order{Spec: chain.Spec{Chains: []chain.Chain{b.chain(hook.Ingress, hook.TC, m)}}}
	}
	good := process.Spec{Command: "sleeper", User: nobody, Group: nobody}
	status, a := c.ask(http.MethodPost, "/apply", "", order(&good))
	require.Equal(t, http.StatusOK, status, a.Error)
	before := c.running(1)
	attached := b.hook(hook.Ingress, hook.TC)
	for name, test := range map[string]struct {
		change func(*process.Spec)
		err    string
	}{
		"no file":            {func(p *process.Spec) { p.Command = "missing" }, "command: missing: "},
		"no such path":       {func(p *process.Spec) { p.Command = "/no/such/file" }, "no such file"},
		"way out":            {func(p *process.Spec) { p.Command = "../sleeper" }, "is no name inside of the member's artifact"},
		"link out":           {func(p *process.Spec) { p.Command = "out" }, "path escapes from parent"},
		"not executable":     {func(p *process.Spec) { p.Command = "plain" }, "it is not executable"},
		"no executable":      {func(p *process.Spec) { p.Command = "text" }, "it is not in ELF format, and has no #! at its beginning"},
		"another file":       {func(p *process.Spec) { p.SHA256 = strings.Repeat("0", 64) }, "the checksum is another"},
		"user":               {func(p *process.Spec) { p.User = "no-such-user" }, `user: there is no user "no-such-user" on this host`},
		"group":              {func(p *process.Spec) { p.Group = "no-such-group" }, `group: there is no group "no-such-group" on this host`},
		"no group":           {func(p *process.Spec) { p.Group = "" }, "group: is missing"},
		"root":               {func(p *process.Spec) { p.User = "root" }, "chains.processes.root"},
		"root's group":       {func(p *process.Spec) { p.Group = "0" }, "chains.processes.root"},
		"capability":         {func(p *process.Spec) { p.Capabilities = []string{"cap_net_raw"} }, "chains.processes.capabilities"},
		"unknown capability": {func(p *process.Spec) { p.Capabilities = []string{"cap_fly"} }, `"cap_fly" is no capability`},
		"system call":        {func(p *process.Spec) { p.Syscalls = []string{"bpf"} }, "chains.processes.syscalls"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			test.change(&p)
			for _, path := range []string{"/plan", "/apply"} {
				status, a := c.ask(http.MethodPost, path, "", order(&p))
				require.Equal(t, http.StatusUnprocessableEntity, status)
				require.Contains(t, a.Error, test.err)
			}
		})
	}
	require.Equal(t, before, c.running(1))
	require.Equal(t, attached, b.hook(hook.Ingress, hook.TC))
}

// Nothing is executed unless it is allowed, and the refusal says by what.
func TestProcessNotAllowed(t *testing.T) {
	b := newBed(t)
	b.sleeper("any")
	_, err := b.apply(&chain.Spec{Chains: []chain.Chain{b.chain(hook.Ingress, hook.TC, b.withProcess(1))}}, chain.ApplyOptions{})
	require.ErrorIs(t, err, process.ErrNotAllowed)
	require.ErrorContains(t, err, "chains.processes.allow: true")
	require.Empty(t, b.hook(hook.Ingress, hook.TC).Own)
}

// Processes end with their manager, and the next one starts them again, unless they would be other ones.
func TestProcessesRestored(t *testing.T) {
	b := newBed(t)
	b.sleeper("first")
	open := func() (*chain.Manager, chain.Restored) {
		m, err := chain.Open(chain.Options{State: b.state, Pin: b.pin, Processes: process.Rules{Allow: true}})
		require.NoError(t, err)
		all := m.Restore()
		if len(all) == 0 {
			return m, chain.Restored{}
		}
		return m, all[0]
	}
	member := b.withProcess(1)
	member.Program, member.Constants["verdict"] = "xdp_member", int64(hook.XDPPass)
	spec := &chain.Spec{Chains: []chain.Chain{b.chain(hook.XDP, "", member)}}
	m, _ := open()
	_, err := m.Apply(spec, chain.ApplyOptions{})
	require.NoError(t, err)
	require.NoError(t, m.Close())

	m, r := open()
	require.NoError(t, r.Err)
	require.NoError(t, r.Processes)
	changes, err := m.Apply(spec, chain.ApplyOptions{})
	require.NoError(t, err)
	require.True(t, changes[0].Unchanged())
	require.NoError(t, m.Close())

	require.NoError(t, os.RemoveAll(b.pin)) // as after a boot
	m, r = open()
	require.NoError(t, r.Err)
	require.NoError(t, r.Processes)
	require.NotEqual(t, process.Absent, m.List()[0].Members[0].Process.State)
	require.NoError(t, m.Close())

	b.sleeper("second")
	m, r = open()
	require.NoError(t, r.Err, "the chain needs no process")
	require.ErrorContains(t, r.Processes, "another than the one that was applied")
	require.Equal(t, process.Absent, m.List()[0].Members[0].Process.State)
	require.NoError(t, m.Close())
}
