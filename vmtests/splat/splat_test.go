package splat

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// samples are lines as kernels print them. Each entry of the lists has at least one.
var samples = []string{
	"[    5.123456] WARNING: CPU: 0 PID: 77 at net/core/dev.c:1650 netdev_x+0x1/0x2",
	"[    5.123456] WARNING: net/core/dev.c:1650 at netdev_x+0x1/0x2, CPU#0: weir/77",
	"[    5.123456] BUG: kernel NULL pointer dereference, address: 0000000000000010",
	"[    5.123456][  T77] BUG: KASAN: slab-use-after-free in veth_xmit+0x1/0x2",
	"[   25.000000] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!",
	"[    5.123456] kernel BUG at net/core/skbuff.c:110!",
	"[    5.123456] Oops: Oops: 0002 [#1] SMP NOPTI",
	"[    5.123456] general protection fault, probably for non-canonical address 0xdead: 0000",
	"[    5.123456] double fault: 0000 [#1] SMP",
	"[    5.123456] Kernel panic - not syncing: sysrq triggered crash",
	"[    5.123456] UBSAN: array-index-out-of-bounds in net/sched/cls_bpf.c:1:2",
	"[  245.123456] INFO: task weir:77 blocked for more than 120 seconds.",
	"[   26.123456] rcu: INFO: rcu_sched self-detected stall on CPU",
	"[   26.123456] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
	"[   26.123456] rcu: rcu_sched kthread starved for 753 jiffies! g897 f0x2 ->state=0x0",
	"[   26.123456] rcu: rcu_sched kthread timer wakeup didn't happen for 5252 jiffies! g1",
	"[   26.123456] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [weir:77]",
	"[    5.123456] INFO: possible recursive locking detected",
	"[    5.123456] INFO: trying to register non-static key.",
	"[    5.123456] refcount_t: underflow; use-after-free.",
	"[    5.123456] list_add corruption. prev->next should be next",
	"[   15.123456] unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
	"[    5.123456] unchecked MSR access error: RDMSR from 0x1ad at rIP: 0xffffffff81",
	"[    5.123456] weir: page allocation failure: order:4, mode:0x40cc0",
	"[    5.123456] Out of memory: Killed process 77 (weir) total-vm:1kB",
	"[    5.123456] Memory cgroup out of memory: Killed process 77 (weir)",
	"[    5.123456] weir[77]: segfault at 0 ip 00 sp 00 error 4 in weir[400000+1000]",
}

// harmless are lines that look like trouble and are none.
var harmless = []string{
	"[    0.061234] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
	"[    5.123456] WARNING: Unprivileged eBPF is enabled, data leaks possible",
	"[    5.123456] rcu: Hierarchical RCU implementation.",
	"[    5.123456] weir: scenario 3 starts",
	"[    5.123456] IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
	"[    5.123456] watchdog: Disabling watchdog on nohz_full cores by default",
	"[    5.123456] weir: found a BUG: in the scenario's own text",
	"[    5.123456] netlink: 8 bytes leftover after parsing attributes",
	"",
}

func TestFind(t *testing.T) {
	for _, s := range samples {
		got, ok := Find([]string{harmless[0], s, harmless[1]})
		require.True(t, ok, s)
		require.Contains(t, s, got)
		require.NotRegexp(t, `^\[`, got)
	}
	_, ok := Find(harmless)
	require.False(t, ok)
}

// A check that does not work must not look like a clean log: every entry has to match a sample.
func TestListsAreAlive(t *testing.T) {
	require.NotEmpty(t, denied)
	for _, d := range denied {
		require.Condition(t, func() bool { return any(samples, d.MatchString) }, "%v", d)
	}
	for _, a := range allowed {
		require.Condition(t, func() bool { return any(harmless, a.re.MatchString) }, "%v", a.re)
		require.NotEmpty(t, a.why)
	}
}

func any(lines []string, match func(string) bool) bool {
	for _, l := range lines {
		if match(stamp.ReplaceAllString(l, "")) {
			return true
		}
	}
	return false
}

// A process that is to be killed for its group's limit may be, and no other one, and not for anything else.
func TestFindStarved(t *testing.T) {
	const line = "[    5.123456] Memory cgroup out of memory: Killed process 77 (weir)"
	for _, c := range []struct {
		line    string
		starved []int
		bad     bool
	}{
		{line, nil, true},
		{line, []int{77}, false},
		{line, []int{8, 77}, false},
		{line, []int{7, 777}, true},
		{strings.Replace(line, "Memory cgroup out", "Out", 1), []int{77}, true},
	} {
		_, bad := Find([]string{harmless[0], c.line}, c.starved...)
		require.Equal(t, c.bad, bad, "%s %v", c.line, c.starved)
	}
}
