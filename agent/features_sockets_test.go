package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/podgroup"
	"github.com/weirnet/weir/bpf/kerneltest"
	"github.com/weirnet/weir/bpf/sockets"
)

// SendDatagram sends a datagram, as a process of its own; ends are "from to".
func SendDatagram(ends string) error {
	from, to, _ := strings.Cut(ends, " ")
	own, err := net.ResolveUDPAddr("udp4", from)
	if err != nil {
		return err
	}
	far, err := net.ResolveUDPAddr("udp4", to)
	if err != nil {
		return err
	}
	c, err := net.DialUDP("udp4", own, far)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	return err
}

// controlGroup makes a control group of version 2 for the test: what it is below kubepods, or "" for none.
func controlGroup(t *testing.T, top, path string) string {
	t.Helper()
	dir := filepath.Join(top, path)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() { // from below, as far as others need it no more
		for d := dir; d != filepath.Dir(top); d = filepath.Dir(d) {
			_ = os.Remove(d)
		}
	})
	return dir
}

// sendFrom lets a process in a control group send a datagram from a port of the far end, and waits for its end.
func (p *pair) sendFrom(t *testing.T, group, port string) {
	t.Helper()
	at, err := os.Open(group)
	require.NoError(t, err)
	defer at.Close()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), AsSender+"=10.0.0.2:"+port+" 10.0.0.1:9")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(at.Fd())}
	inside(t, p.far, func() error {
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	})
}

const hostPods = `
nodes: {n1: {addresses: [10.0.0.2]}}
pods:
  kube-system/proxy: {node: n1, addresses: [10.0.0.2], host_network: true, uid: 0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11}
`

// TestSocketsTell lets processes of two pods and of none send from one address, one of a pod that nobody knows. When
// records are written, the pod's control group is gone.
func TestSocketsTell(t *testing.T) {
	p := newPair(t)
	mount, err := podgroup.Mount()
	if err != nil {
		kerneltest.Lacking(t, fmt.Sprintf("control groups of version 2 (%v)", err))
	}
	top, err := os.MkdirTemp(mount, "weir-test-agent-")
	if err != nil {
		kerneltest.Lacking(t, fmt.Sprintf("the right to make control groups (%v)", err))
	}
	t.Cleanup(func() { _ = os.Remove(top) })
	cfg := p.watching(t)
	cfg.Features = []string{sockets.Feature}
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	require.NoError(t, os.WriteFile(file, []byte(hostPods), 0o600))
	cfg.Labels.Node, cfg.Labels.Wait = "n1", 0
	cfg.Active = time.Hour // records are written when the agent stops
	cfg.Labels.Clusters = []LabelCluster{{Name: "c", File: file}}
	a, err := New(cfg, Options{Log: discard()})
	require.NoError(t, err)
	stop := run(t, a)
	inside(t, p.near, func() error { // nobody answers that there is no such port
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: p.nearIP, Port: 9})
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	})
	pod := controlGroup(t, top, "kubepods/besteffort/pod0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11/12ab")
	other := controlGroup(t, top, "kubepods/besteffort/pod99999999-9b5c-4b29-9a4c-8e0e4d2f6a11/12ab")
	process := controlGroup(t, top, "system")
	p.sendFrom(t, pod, "5001")
	p.sendFrom(t, other, "5002")
	p.sendFrom(t, process, "5003")
	eventually(t, "the control socket", func() bool { return control.Answers(cfg.Control) })
	require.NoError(t, a.Sweep())
	require.NoError(t, os.Remove(pod))
	status, err := a.Status()
	require.NoError(t, err)
	require.Contains(t, status.Features, control.Feature{Name: sockets.Feature, State: control.FeatureOn})
	require.NoError(t, stop())

	flows, _ := readOutput(t, cfg.Output)
	got := map[uint16]*flow.Labels{}
	for _, r := range flows {
		got[r.SrcPort] = r.SrcLabels
	}
	require.Equal(t, "kube-system/proxy", got[5001].Namespace+"/"+got[5001].Pod)
	for _, port := range []uint16{5002, 5003} {
		require.Equal(t, flow.KindNode, got[port].Kind)
		require.Equal(t, "n1", got[port].Node)
	}
	stats := a.labels.labeler.Stats()
	for how, want := range map[labeler.Sharing]uint64{labeler.SharedPod: 1, labeler.SharedNode: 1, labeler.NoPod: 1,
		labeler.NoSocket: 0, labeler.NoGroup: 0} {
		require.Equal(t, want, stats.Shared[how.String()].Packets, how)
	}
	var table bytes.Buffer
	require.NoError(t, labelTable(&table, &stats))
	require.Regexp(t, `(?m)^ends at the node's addresses: pod +1 +47$`, table.String())
	require.Regexp(t, `(?m)^ends at the node's addresses: no-pod +1 +47$`, table.String())
}

// TestSocketsCannot: the reason is told, and the agent goes on.
func TestSocketsCannot(t *testing.T) {
	p := newPair(t)
	file := filepath.Join(t.TempDir(), "cluster.yaml")
	require.NoError(t, os.WriteFile(file, []byte(hostPods), 0o600))
	for reason, labels := range map[string]Labels{
		"there are no labels":                        {},
		"no control groups of version 2 are mounted": {Cgroups: t.TempDir(), Clusters: []LabelCluster{{Name: "c", File: file}}},
		"no such file":                               {Cgroups: "/no/such/folder", Clusters: []LabelCluster{{Name: "c", File: file}}},
	} {
		cfg := p.watching(t)
		cfg.Features, cfg.Labels = []string{sockets.Feature}, labels
		var log bytes.Buffer
		a, err := New(cfg, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		require.Contains(t, log.String(), `msg=feature name=sockets state="cannot run here"`)
		require.Contains(t, log.String(), reason)
		stop := run(t, a)
		p.send(t, p.udp(t, 1, 2, 0))
		require.NoError(t, stop())
		flows, _ := readOutput(t, cfg.Output)
		require.NotEmpty(t, flows)
	}
}
