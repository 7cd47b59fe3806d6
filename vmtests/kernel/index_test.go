package kernel

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// show makes what apt-cache show prints of "package version [depends]" lines.
func show(packages ...string) string {
	var b strings.Builder
	for _, p := range packages {
		f := strings.SplitN(p, " ", 3)
		fmt.Fprintf(&b, "Package: %s\nVersion: %s\n", f[0], f[1])
		if len(f) > 2 {
			fmt.Fprintf(&b, "Depends: %s\n", f[2])
		}
		fmt.Fprintf(&b, "SHA256: sum of %s %s\nDescription: a kernel\n more of it\n\n", f[0], f[1])
	}
	return b.String()
}

var archive = show(
	"linux-image-5.10.0-46-cloud-amd64 5.10.262-1 kmod",
	"linux-image-5.10.0-46-cloud-amd64-unsigned 5.10.262-1 kmod",
	"linux-image-5.10.0-45-cloud-amd64-unsigned 5.10.259-1 kmod",
	"linux-image-5.10.0-46-cloud-amd64-dbg 5.10.262-1",
	"linux-image-5.10.0-46-amd64 5.10.262-1 kmod",
	"linux-image-cloud-amd64 5.10.262-1 linux-image-5.10.0-46-cloud-amd64",
	"linux-image-6.12.95+deb12-cloud-amd64 6.12.95-1~bpo12+1 kmod",
	"linux-image-6.12.117+deb13-cloud-amd64 6.12.117-1 kmod",
	// The image is empty, and the modules are gone; either may say that they are wanted.
	"linux-image-7.0.13+deb13-cloud-amd64 7.0.13-1 linux-binary-7.0.13+deb13-cloud-amd64, linux-modules-7.0.13+deb13-cloud-amd64",
	"linux-binary-7.0.13+deb13-cloud-amd64 7.0.13-1 linux-base",
	"linux-image-7.1.13+deb13-cloud-amd64 7.1.13-1 linux-binary-7.1.13+deb13-cloud-amd64 (= 7.1.13-1)",
	"linux-binary-7.1.13+deb13-cloud-amd64 7.1.13-1 linux-modules-7.1.13+deb13-cloud-amd64 (= 1)",
	"linux-image-7.2.13+deb14-cloud-amd64 7.2.13-1 linux-binary-7.2.13+deb14-cloud-amd64",
	"linux-binary-7.2.13+deb14-cloud-amd64 7.2.13-1 linux-base",
	"linux-binary-unsigned-7.2.13+deb14-cloud-amd64 7.2.13-1 linux-base",
	"linux-modules-7.2.13+deb14-cloud-amd64 7.2.13-1 linux-base",
	// Only unsigned so far.
	"linux-binary-unsigned-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1 linux-base",
	"linux-modules-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1 linux-base",
	"linux-binary-7.3-cloud-amd64 7.3~rc7-1~exp1 linux-base",
	"linux-modules-7.3-cloud-amd64 7.3~rc7-1~exp1 linux-base",
)

func TestChoose(t *testing.T) {
	index, err := readIndex(strings.NewReader(archive))
	require.NoError(t, err)
	kernels := whole(assemble(index))
	tests := map[string][]string{
		"5.10": {
			"linux-image-5.10.0-46-cloud-amd64 5.10.262-1",
			"linux-image-5.10.0-46-cloud-amd64-unsigned 5.10.262-1",
			"linux-image-5.10.0-45-cloud-amd64-unsigned 5.10.259-1",
		},
		"6.12": {
			"linux-image-6.12.117+deb13-cloud-amd64 6.12.117-1",
			"linux-image-6.12.95+deb12-cloud-amd64 6.12.95-1~bpo12+1",
		},
		"6.1": nil,
		"7.0": nil,
		"7.1": nil,
		"7.x": {
			"linux-binary-7.2.13+deb14-cloud-amd64 7.2.13-1",
			"linux-binary-unsigned-7.2.13+deb14-cloud-amd64 7.2.13-1",
		},
		"5.x":    {"linux-image-5.10.0-46-cloud-amd64 5.10.262-1"},
		"8.x":    nil,
		"7.3":    {"linux-binary-unsigned-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1"},
		"newest": {"linux-binary-unsigned-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1"},
		"rc":     {"linux-binary-7.3-cloud-amd64 7.3~rc7-1~exp1"},
	}
	for line, want := range tests {
		var got []string
		for _, k := range choose(kernels, line) {
			got = append(got, k.Debs[0].Package+" "+k.Version)
			for _, d := range k.Debs {
				require.Equal(t, "sum of "+d.Package+" "+d.Version, d.SHA256)
			}
		}
		if line == "5.x" {
			got = got[:1]
		}
		require.ElementsMatch(t, want, got, line)
		if len(want) > 0 {
			require.Equal(t, want[0], got[0], line)
		}
	}
}

func TestLack(t *testing.T) {
	index, err := readIndex(strings.NewReader(archive))
	require.NoError(t, err)
	kernels := assemble(index)
	require.Equal(t, "linux-modules-7.0.13+deb13-cloud-amd64", lack(kernels, "7.0"))
	require.Equal(t, "linux-modules-7.1.13+deb13-cloud-amd64", lack(kernels, "7.1"))
	for _, line := range []string{"5.10", "7.2", "7.3", "4.19"} {
		require.Empty(t, lack(kernels, line), line)
	}
	require.Equal(t, []string{"5.10", "6.12", "7.0", "7.1", "7.2", "7.3"}, linesOf(kernels))
	require.Equal(t, []string{"5.10", "6.12", "7.2", "7.3"}, linesOf(whole(kernels)))
}

func TestSplitPackagesBelongTogether(t *testing.T) {
	index, err := readIndex(strings.NewReader(archive))
	require.NoError(t, err)
	k := choose(whole(assemble(index)), Newest)[0]
	require.Len(t, k.Debs, 2)
	require.Equal(t, "linux-modules-7.3.4+deb13-cloud-amd64", k.Debs[1].Package)
	require.Equal(t, "7.3.4+deb13-cloud-amd64", k.ABI)
}

func TestReadIndexOfNothing(t *testing.T) {
	index, err := readIndex(strings.NewReader(""))
	require.NoError(t, err)
	require.Empty(t, assemble(index))
	require.Empty(t, choose(nil, Newest))
	require.Empty(t, choose(nil, "7.x"))
}

func TestLinesOfAnArchive(t *testing.T) {
	newestFirst := func(versions ...string) (all []archived) {
		for _, v := range versions {
			all = append(all, archived{Version: v})
		}
		return all
	}
	require.Equal(t, []string{"5.10", "6.12", "7.2", Candidate},
		linesOf(newestFirst("7.3~rc7-1~exp1", "7.2.13-1", "7.2.9-1", "6.12.117-1", "5.10.262-1", "nonsense")))
	require.Equal(t, []string{"7.3"}, linesOf(newestFirst("7.3.4-1", "7.3~rc7-1")), "a candidate of what is out")
	require.Empty(t, linesOf(nil))
}
