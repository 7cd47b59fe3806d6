package runner

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
)

// forgive makes a failure that is expected a skip, which says why. One that does not come any more, or
// whose day has passed, is a failure itself.
func forgive(f *spec.Exception, now time.Time, out *result.Scenario) {
	told := f.Told()
	switch {
	case out.Verdict == result.Fail && len(out.Differences) == 0: // it has no golden file yet
	case out.Verdict == result.Pass:
		out.Verdict = result.Fail
		out.Reason = fmt.Sprintf("passes, although a failure is expected on %s: %s; take that out of expect.fails", f.Kernel, told)
	case out.Verdict == result.Fail && f.Expired(now):
		out.Reason = fmt.Sprintf("%s; it was expected until %s: %s", out.Reason, f.Until.Format(time.DateOnly), told)
	case out.Verdict == result.Fail:
		out.Verdict = result.Skip
		out.Reason = fmt.Sprintf("fails as expected until %s: %s", f.Until.Format(time.DateOnly), told)
		out.Golden = ""
	}
}

// release is the running kernel's, as uname -r has it.
func release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return strings.TrimSpace(unix.ByteSliceToString(u.Release[:])), nil
}
