// Package splat finds the places where a kernel's log says that something went wrong in the
// kernel: warnings, bugs, lockups, reports of the sanitizers.
//
// There is a list of what counts and a list of exceptions, each with its reason. A line that
// matches the first and not the second is a splat.
package splat

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// denied are what counts as a splat.
var denied = []*regexp.Regexp{
	regexp.MustCompile(`^WARNING: `),
	regexp.MustCompile(`^BUG: `),
	regexp.MustCompile(`\bkernel BUG at `),
	regexp.MustCompile(`^Oops: `),
	regexp.MustCompile(`^general protection fault`),
	regexp.MustCompile(`^double fault`),
	regexp.MustCompile(`^Kernel panic - not syncing`),
	regexp.MustCompile(`^UBSAN: `),
	regexp.MustCompile(`^INFO: task .* blocked for more than`),
	regexp.MustCompile(`^(rcu: )?INFO: rcu_.*(detected|stall)`),
	regexp.MustCompile(`\brcu: .*kthread (starved|timer wakeup didn't happen)`),
	regexp.MustCompile(`watchdog: .*(soft lockup|hard LOCKUP)`),
	regexp.MustCompile(`^INFO: (possible|inconsistent|trying to register)`),
	regexp.MustCompile(`^refcount_t: `),
	regexp.MustCompile(`^list_(add|del) corruption`),
	regexp.MustCompile(`^unregister_netdevice: waiting for`),
	regexp.MustCompile(`^unchecked MSR access error`),
	regexp.MustCompile(`: page allocation failure: order:`),
	regexp.MustCompile(`^Out of memory: Killed process`),
	regexp.MustCompile(`^Memory cgroup out of memory: Killed process`),
	regexp.MustCompile(`: segfault at `),
}

// allowed are exceptions.
var allowed = []struct {
	re  *regexp.Regexp
	why string
}{
	{regexp.MustCompile(`^WARNING: Unprivileged eBPF is enabled`),
		"a remark about a setting, which newer kernels print when it changes"},
}

// stamp is the time, and the caller from kernels that print it, at the start of a line.
var stamp = regexp.MustCompile(`^\[ *[0-9]+\.[0-9]+\](\[ *[CT][0-9]+\])? `)

// Find gives the first line that is a splat, without its time, and false when there is none. That the
// kernel kills one of the starved processes for its control group's limit is none.
func Find(lines []string, starved ...int) (string, bool) {
	for _, line := range lines {
		text := stamp.ReplaceAllString(line, "")
		if matches(text) && !kills(text, starved) {
			return text, true
		}
	}
	return "", false
}

func matches(text string) bool {
	for _, a := range allowed {
		if a.re.MatchString(text) {
			return false
		}
	}
	for _, d := range denied {
		if d.MatchString(text) {
			return true
		}
	}
	return false
}

// kills tells whether the line says that one of these processes was killed for its group's limit.
func kills(text string, pids []int) bool {
	return slices.ContainsFunc(pids, func(pid int) bool {
		return strings.HasPrefix(text, fmt.Sprintf("Memory cgroup out of memory: Killed process %d (", pid))
	})
}
