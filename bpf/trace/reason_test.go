package trace

import (
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

func enum(name string, values ...btf.EnumValue) *btf.Enum {
	return &btf.Enum{Name: name, Size: 4, Values: values}
}

func skbArguments(reason btf.Type) []btf.Type {
	pointer := &btf.Pointer{Target: &btf.Struct{Name: "sk_buff"}}
	return []btf.Type{pointer, &btf.Pointer{Target: &btf.Void{}}, reason}
}

// today is an excerpt of what kernels since 6.4 have.
func today() *reasons {
	r := readReasons(nil, skbArguments(enum(coreReasons,
		btf.EnumValue{Name: "SKB_NOT_DROPPED_YET", Value: 0},
		btf.EnumValue{Name: "SKB_CONSUMED", Value: 1},
		btf.EnumValue{Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 2},
		btf.EnumValue{Name: "SKB_DROP_REASON_NO_SOCKET", Value: 3},
		btf.EnumValue{Name: "SKB_DROP_REASON_AGAIN", Value: 3})))
	r.subsystems = func() []*btf.Enum { return nil }
	return r
}

func TestReasons(t *testing.T) {
	r := today()
	require.True(t, r.told)
	require.Equal(t, [2]uint32{0, 1}, r.noDrop)
	require.Equal(t, "not-specified", r.name(2))
	require.Equal(t, "no-socket", r.name(3), "the first of two names")
	require.Equal(t, "reason-0x63", r.name(99))
}

// TestReasonsFirst is of 5.17, where all values are drops.
func TestReasonsFirst(t *testing.T) {
	r := readReasons(nil, skbArguments(enum(coreReasons,
		btf.EnumValue{Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 0},
		btf.EnumValue{Name: "SKB_DROP_REASON_NO_SOCKET", Value: 1})))
	require.Equal(t, [2]uint32{noSuchReason, noSuchReason}, r.noDrop)
	require.Equal(t, "not-specified", r.name(0))
	require.Equal(t, "no-socket", r.name(1))
}

func TestReasonsNotTold(t *testing.T) {
	for name, args := range map[string][]btf.Type{
		"before 5.17":    skbArguments(nil)[:2],
		"something else": skbArguments(&btf.Int{Name: "int"}),
		"another enum":   skbArguments(enum("color")),
	} {
		r := readReasons(nil, args)
		require.False(t, r.told, name)
		require.Equal(t, "unknown", r.name(3), name)
	}
}

func TestReasonsOfSubsystems(t *testing.T) {
	r, searches := today(), 0
	r.subsystems = func() []*btf.Enum {
		searches++
		return []*btf.Enum{
			enum("ovs_drop_reason",
				btf.EnumValue{Name: "__OVS_DROP_REASON", Value: 0x30000},
				btf.EnumValue{Name: "OVS_DROP_LAST_ACTION", Value: 0x30001}),
			enum("mac80211_drop_reason",
				btf.EnumValue{Name: "RX_CONTINUE", Value: 3},
				btf.EnumValue{Name: "RX_DROP_U_REPLAY", Value: 0x10007}),
		}
	}
	require.Equal(t, "no-socket", r.name(3))
	require.Zero(t, searches)
	require.Equal(t, "ovs-last-action", r.name(0x30001))
	require.Equal(t, "rx-u-replay", r.name(0x10007))
	require.Equal(t, "no-socket", r.name(3), "a subsystem cannot rename the core's")
	require.Equal(t, 1, searches)
	require.Equal(t, "reason-0x50001", r.name(0x50001))
	require.Equal(t, "reason-0x50001", r.name(0x50001))
	require.Equal(t, 2, searches, "once for each value that nobody knows")
}

// TestReasonsOfThisKernel reads the running kernel's.
func TestReasonsOfThisKernel(t *testing.T) {
	types, err := kernelTypes()
	if err != nil {
		t.Skip("skipped: ", err)
	}
	args, err := arguments(types, dropsTracepoint)
	require.NoError(t, err)
	require.NoError(t, wantPointer(dropsTracepoint, args, "sk_buff"))
	require.Error(t, wantPointer(dropsTracepoint, args, "sock"))
	r := readReasons(types, args)
	if !r.told {
		t.Skip("skipped: the kernel tells no reasons")
	}
	var names []string
	for _, n := range r.names {
		require.Regexp(t, `^[a-z0-9-]+$`, n)
		names = append(names, n)
	}
	require.Contains(t, names, "no-socket")
	require.Contains(t, names, "not-specified")

	_, err = arguments(types, "no_such_tracepoint")
	require.ErrorContains(t, err, "no_such_tracepoint")
}
