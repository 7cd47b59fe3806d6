package guest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/runner"
)

func TestKernelLine(t *testing.T) {
	tests := map[string]string{
		"4,123,5000000,-;eth0: link up\n SUBSYSTEM=net\n": "[    5.000000] eth0: link up",
		"6,1,12345678901,-,caller=T1;x\n":                 "[12345.678901] x",
		"30,1,7,c;continued\n":                            "[    0.000007] continued",
		"nonsense":                                        "",
		"a,b,c;text":                                      "text",
		"1;text":                                          "text",
	}
	for record, want := range tests {
		require.Equal(t, want, kernelLine(record), record)
	}
}

func TestBusyMillis(t *testing.T) {
	require.Equal(t, int64(1+2+4+64+128)*10,
		busyMillis("cpu  1 2 4 8 16 64 128 256 0 0\ncpu0 9 9 9 9\n"))
	require.Zero(t, busyMillis(""))
}

func TestLastBytes(t *testing.T) {
	require.Equal(t, "cdef", lastBytes(strings.NewReader("abcdef"), 4))
	require.Equal(t, "ab", lastBytes(strings.NewReader("ab"), 4))
	long := strings.Repeat("0123456789", 10_000)
	require.Equal(t, long[len(long)-77:], lastBytes(strings.NewReader(long), 77))
}

func TestIsGuest(t *testing.T) {
	for role, want := range map[string]bool{
		"": false, roleInit: false /* not PID 1 */, roleWorker: true, "else": false,
	} {
		t.Setenv(envRole, role)
		require.Equal(t, want, IsGuest(), role)
	}
}

// Faults are judged by name: two of the same would hide one another.
func TestFaultsAreToldApart(t *testing.T) {
	require.Equal(t, result.Pass, Faults[0].Want)
	seen := map[string]bool{}
	for _, f := range Faults {
		require.False(t, seen[f.Name], f.Name)
		seen[f.Name] = true
		require.NotEmpty(t, f.What)
		require.Equal(t, f.Want != result.Pass, f.Says != "", f.Name)
		require.Equal(t, f.Name, faultName(FaultPrefix+f.Name+"/again"))
		require.True(t, isFault(FaultPrefix+f.Name))
	}
	require.False(t, isFault("tcp/fault/x"))
	s := runFault(context.Background(), FaultPrefix+"unheard-of", nil)
	require.Equal(t, result.Error, s.Verdict)
}

// colours is a Shell with one command of its own and one that is built in too.
type colours struct{}

func (colours) Help() string                                       { return "paint  paints\n" }
func (colours) Setup(context.Context, runner.Job, io.Writer) error { return nil }
func (colours) Command(_ context.Context, a []string, w io.Writer) (bool, error) {
	_, err := io.WriteString(w, "coloured "+a[0])
	return a[0] == "paint" || a[0] == "uname", err
}

func TestDispatch(t *testing.T) {
	var out bytes.Buffer
	w := &worker{}
	run := func(line string) error {
		out.Reset()
		return w.dispatch(context.Background(), strings.Fields(line), &out)
	}
	require.NoError(t, run("uname"))
	require.Equal(t, release()+"\n", out.String())
	require.NoError(t, run("help"))
	require.Contains(t, out.String(), "exec NS COMMAND...")
	require.ErrorContains(t, run("vi"), "no such command")
	require.ErrorContains(t, run("run"), "without a scenario")
	require.ErrorContains(t, run("exec x"), "want a namespace and a command")
	require.ErrorContains(t, run("exec nowhere uname"), "find namespace nowhere")
	require.ErrorContains(t, run("write x"), "want a file and a text")
	file := t.TempDir() + "/f"
	require.NoError(t, run("write "+file+" two words"))
	require.NoError(t, run("cat "+file))
	require.Equal(t, "two words\n", out.String())
	require.NoError(t, run("ls "+t.TempDir()))

	w.opts.Shell = colours{}
	require.NoError(t, run("paint"))
	require.NoError(t, run("uname"))
	require.Equal(t, "coloured uname", out.String(), "the scenario's commands win")
	require.NoError(t, run("help"))
	require.Contains(t, out.String(), "paint                  paints")
}
