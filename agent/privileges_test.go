package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/privileges"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// mask is a set of capabilities as /proc has it.
func mask(values []cap.Value) string {
	var bits uint64
	for _, v := range values {
		bits |= 1 << v
	}
	return fmt.Sprintf("%016x", bits)
}

// confined checks what every thread of a process has left.
func (p *process) confined(t *testing.T, keep []cap.Value) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // the thread has ended
		}
		require.NoError(t, err)
		for field, want := range map[string]string{"CapEff": mask(keep), "CapPrm": mask(keep), "CapBnd": mask(keep),
			"CapAmb": mask(nil), "NoNewPrivs": "1"} {
			got := regexp.MustCompile(field + `:\s*(\w+)`).FindSubmatch(text)
			require.NotNil(t, got, field)
			require.Equal(t, want, string(got[1]), "%s of %s", field, file)
		}
	}
}

// TestPrivilegesAreDropped runs an agent that watches another namespace, stops it in order, and finds all counted
// and nothing left attached.
func TestPrivilegesAreDropped(t *testing.T) {
	modes(t, func(t *testing.T, mode string) {
		p := newPair(t)
		cfg := p.pinned(t)
		cfg.Interfaces[0].Hook = mode
		cfg.Features = Features()
		agent := startProcess(t, cfg)
		agent.confined(t, privileges.Keep(true))
		p.send(t, p.udp(t, 1000, 2000, 10))
		require.NoError(t, control.Dial(cfg.Control).Resize(t.Context(), 100), "it still may make tables")
		p.send(t, p.udp(t, 1000, 2000, 10))
		agent.end(t)
		require.Equal(t, uint64(2), delivered(t, cfg.Output).Packets)
		require.Empty(t, p.attached(t))
		require.NotContains(t, agent.log.String(), "level=ERROR")
	})
}

// TestThreeCapabilities runs an agent that has never had more, in its own network namespace.
func TestThreeCapabilities(t *testing.T) {
	kerneltest.NeedRoot(t)
	t.Setenv(WithCaps, "cap_bpf cap_net_admin cap_perfmon")
	cfg := DefaultConfig()
	cfg.Interfaces = []Interface{{Name: ownDevice(t)}}
	cfg.Interval, cfg.Active = minEvery, minEvery
	cfg.Features = Features()
	cfg.Labels.Ranges.Own = []OwnRange{{CIDR: "10.0.0.0/8", Name: "lab"}} // for the feature that labels want
	cfg.Output = filepath.Join(t.TempDir(), "flows.jsonl")
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	agent := startProcess(t, cfg)
	agent.confined(t, privileges.Keep(false))
	s, err := control.Dial(cfg.Control).Status(t.Context())
	require.NoError(t, err)
	for _, f := range s.Features {
		require.Equal(t, control.FeatureOn, f.State, "%+v", f)
	}
	require.Len(t, s.Hooks, 2)
	agent.end(t)
}

// TestWithoutPerfmon checks that an agent without CAP_PERFMON, whose programs the kernel refuses, ends with an error.
func TestWithoutPerfmon(t *testing.T) {
	kerneltest.NeedRoot(t)
	t.Setenv(WithCaps, "cap_bpf cap_net_admin")
	file := filepath.Join(t.TempDir(), "weir.yaml")
	t.Setenv(AsAgent, file)
	require.NoError(t, os.WriteFile(file, []byte("interfaces: [{name: "+ownDevice(t)+"}]\n"), 0o600))
	self, err := os.Executable()
	require.NoError(t, err)
	text, err := exec.Command(self).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "load the datapath")
}

// ownDevice makes a device in the test's own network namespace, which carries nothing.
func ownDevice(t *testing.T) string {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("weir%d", unix.Getpid()%1e6)
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: attrs.Name + "p"}
	require.NoError(t, netlink.LinkAdd(link))
	t.Cleanup(func() { require.NoError(t, netlink.LinkDel(link)) })
	return attrs.Name
}
