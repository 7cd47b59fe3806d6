package bench

import (
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

// All kinds of packets get through, and all chains that the kernel has. What they cost says nothing on a machine whose
// clock is no count.
func TestInstructions(t *testing.T) {
	kerneltest.NeedRoot(t)
	all, err := Instructions(1)
	require.NoError(t, err)
	want := []string{"feature/dns", "feature/dns-query", "feature/handshake", "feature/handshake-syn", "hop/tc", "hop/xdp-link",
		"tcp4/hot", "tcp4/new", "tcp6/hot", "tcp6/new", "udp4/hot"}
	types, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	if _, err := types.AnyTypeByName("tcx_entry"); err == nil {
		want = append(want, "hop/tcx", "hop/tcx-links")
	}
	if features.HaveProgramType(ebpf.Extension) == nil {
		want = append(want, "hop/xdp-dispatcher")
	}
	slices.Sort(want)
	require.Equal(t, want, slices.Sorted(maps.Keys(all)))
}
