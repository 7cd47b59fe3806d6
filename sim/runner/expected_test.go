package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

func TestForgive(t *testing.T) {
	f := &spec.Exception{Kernel: "5.10", Reason: "the kernel loses it", Link: "https://example.com/1",
		Until: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)}
	last, after := f.Until.Add(24*time.Hour-1), f.Until.Add(24*time.Hour)
	for _, c := range []struct {
		was  result.Verdict
		now  time.Time
		is   result.Verdict
		says string
	}{
		{result.Fail, last, result.Skip, "fails as expected until 2027-01-31: the kernel loses it (https://example.com/1)"},
		{result.Fail, after, result.Fail, "2 differences; it was expected until 2027-01-31: the kernel loses it (https://example.com/1)"},
		{result.Pass, last, result.Fail, "passes, although a failure is expected on 5.10: the kernel loses it " +
			"(https://example.com/1); take that out of expect.fails"},
		{result.Pass, after, result.Fail, "passes, although a failure is expected on 5.10: the kernel loses it " +
			"(https://example.com/1); take that out of expect.fails"},
		{result.Skip, last, result.Skip, "2 differences"},
		{result.Error, last, result.Error, "2 differences"},
	} {
		out := result.Scenario{Verdict: c.was, Reason: "2 differences", Golden: "x",
			Differences: make([]result.Difference, 2)}
		forgive(f, c.now, &out)
		require.Equal(t, c.is, out.Verdict)
		require.Equal(t, c.says, out.Reason)
		require.Equal(t, c.is != result.Skip || c.was == result.Skip, out.Golden != "", "an expected failure writes no golden file")
	}
}

// TestForgiveNoGolden checks that a scenario without a golden file stays red, and can be given one.
func TestForgiveNoGolden(t *testing.T) {
	was := result.Scenario{Verdict: result.Fail, Reason: "there is no golden file", Golden: "x"}
	out := was
	forgive(&spec.Exception{Until: time.Now().AddDate(1, 0, 0)}, time.Now(), &out)
	require.Equal(t, was, out)
}

func TestFailsOn(t *testing.T) {
	e := spec.Expect{Fails: []spec.Exception{{Kernel: "6.1"}}}
	require.NotNil(t, e.FailsOn("6.1.0-56-cloud-amd64"))
	require.NotNil(t, e.FailsOn("6.1"))
	require.NotNil(t, e.FailsOn("6.1-rc1"))
	require.Nil(t, e.FailsOn("6.12.3"))
	require.Nil(t, e.FailsOn("5.10.0"))
}
