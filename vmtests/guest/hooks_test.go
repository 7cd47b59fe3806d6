package guest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

func TestOccupyHooks(t *testing.T) {
	kerneltest.NeedRoot(t)
	o, err := occupyHooks()
	require.NoError(t, err)
	var ours, other unix.Stat_t
	require.NoError(t, unix.Stat("/proc/self/ns/net", &ours))
	require.NoError(t, unix.Fstat(int(o.namespace.Fd()), &other))
	require.NotEqual(t, ours.Ino, other.Ino, "it has a network namespace of its own")
	for _, l := range o.links {
		info, err := l.Info()
		require.NoError(t, err)
		require.Equal(t, uint32(loopback), info.TCX().Ifindex)
	}
	require.NoError(t, o.Close())
}
