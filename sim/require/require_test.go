package require

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

func TestTable(t *testing.T) {
	require.True(t, slices.IsSorted(Names()))
	for _, m := range Modules() {
		require.NotEmpty(t, OfModule(m))
	}
	require.Empty(t, OfModule(""))
	require.Empty(t, OfModule("floppy"))
}

func TestExpected(t *testing.T) {
	for _, c := range []struct {
		feature, line string
		want          bool
	}{
		{"vlan", "5.10", true},
		{"vlan", "5.4", false},
		{"netkit", "6.1.0-56-cloud-amd64", false},
		{"netkit", "6.12", true},
		{"netkit", "7.3-cloud-amd64", true},
		{"netkit", "7.3~rc7", true},
		{"netkit", "host", false},
		{"netkit", "", false},
		{"floppy", "7.3", false},
	} {
		require.Equal(t, c.want, Expected(c.feature, c.line), "%s on %s", c.feature, c.line)
	}
}

// Every feature is asked for without an error, whether it is there or not, and nothing stays.
func TestProbe(t *testing.T) {
	kerneltest.NeedRoot(t)
	var p Prober
	missing, err := p.Missing(Names())
	require.NoError(t, err)
	require.NotContains(t, missing, "veth")
	again, err := p.Missing(Names())
	require.NoError(t, err)
	require.Equal(t, missing, again)
	unknown, err := p.Missing([]string{"floppy"})
	require.NoError(t, err)
	require.Equal(t, []string{"floppy"}, unknown)
}
