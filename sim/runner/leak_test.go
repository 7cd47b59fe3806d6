package runner

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func TestKindOfFile(t *testing.T) {
	for target, want := range map[string]string{
		"anon_inode:bpf-map": "BPF maps", "anon_inode:bpf-prog": "BPF programs", "anon_inode:bpf_link": "BPF links",
		"anon_inode:[eventpoll]": "eventpoll", "net:[4026531840]": "network namespaces", "socket:[7]": "sockets",
		"/run/netns/weir-1-0-a": "files", "pipe:[9]": "pipe",
	} {
		require.Equal(t, want, kindOfFile(target), target)
	}
}

// TestLeaked checks that what is not closed is found, and what is closed is not.
func TestLeaked(t *testing.T) {
	before, err := holds()
	require.NoError(t, err)
	f, err := os.Open("/proc/self/ns/net")
	require.NoError(t, err)
	diffs, err := leaked(before)
	require.NoError(t, err)
	require.Len(t, diffs, 1)
	require.Equal(t, "leaks", diffs[0].Section)
	require.Len(t, diffs[0].Fields, 1)
	require.NoError(t, f.Close())
	diffs, err = leaked(before)
	require.NoError(t, err)
	require.Empty(t, diffs)
}

// TestLeakedMap needs the privilege to make a map.
func TestLeakedMap(t *testing.T) {
	before, err := holds()
	require.NoError(t, err)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Skip("no map can be made here:", err)
	}
	defer m.Close()
	diffs, err := leaked(before)
	require.NoError(t, err)
	require.Equal(t, []result.Field{{Name: "BPF maps", Want: "0", Got: "1"}}, diffs[0].Fields)
}

// TestLeftBehind looks while the agent is still there: what it has attached is found.
func TestLeftBehind(t *testing.T) {
	r := newRunner(t)
	var out result.Scenario
	p, _, err := r.begin(t.Context(), Job{Name: "x", File: "x.yaml", Spec: []byte(twoDatagrams)}, &out)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.close()) }()
	diffs, err := p.leftBehind()
	require.NoError(t, err)
	require.Len(t, diffs, 1)
	require.Equal(t, "server/eth0 after the agent's end", diffs[0].Record)
	require.Len(t, diffs[0].Fields, 2, "ingress and egress")
	require.NoError(t, p.run(t.Context()))
	require.Empty(t, p.leaks)
}
