package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
)

// hostile is text that tries to break out of every format.
const hostile = "</script><script>alert(1)</script> | `x` ]]> & \"'\x1b[31m ::error:: --> @all"

// sample is a report with every verdict, a kernel that could not be had, and one of an odd name.
func sample() *result.Report {
	r := &result.Report{
		SchemaVersion: result.SchemaVersion,
		Started:       time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC),
		Millis:        83_412,
		Command:       "weir vm run --kernels all scenarios/...",
		Weir:          "v0.2.0",
	}
	for i, line := range []string{"5.10", "6.1", "6.12", "6.18", "7.1", "newest"} {
		r.Kernels = append(r.Kernels, result.Kernel{
			Line: line,
			Version: []string{"5.10.0-42-amd64", "6.1.0-51-amd64", "6.12.94+deb13-amd64",
				"6.18.9+deb14-amd64", "7.1.3+deb14-amd64", "7.2.1-amd64"}[i],
			Package:      "linux-image-" + line + "-amd64 " + line + ".42-1",
			SHA256:       strings.Repeat(fmt.Sprintf("%02x", 16+i), 32),
			Accel:        "tcg",
			Instructions: map[string]float64{"tcp4/hot": 429.5},
			BootMillis:   int64(2300 + 310*i), Verified: map[string]int{"weir_packet": 2000, "weir_track": 9000},
			Restores:  4,
			Millis:    int64(11_200 + 1430*i),
			Scenarios: sampleScenarios(line, i),
		})
	}
	r.Kernels[1].Scenarios[0].Change = "was fail"
	r.Kernels[2].Scenarios[14].Change = "was pass"
	r.Kernels[1].BootCrashes = []string{"the guest did not get ready: it ended; the end of its console:\nKernel panic"}
	r.Kernels[3].Verified = map[string]int{"weir_packet": 2600, "weir_track": 9000}
	for i := range r.Kernels {
		r.Kernels[i].Memory = map[string]uint64{"conns4": 1 << 20, "conns6": 3 << 19}
		r.Kernels[i].LoadMillis = 900
	}
	r.Flaky = []result.Flake{{Scenario: "tcp/reset", Kernel: "5.10", Version: "5.10.0-42-amd64", Weir: "v0.2.0",
		Runs: 20, Red: 1, Reason: "planned, but no record came"}}
	r.Outlines = sampleOutlines(sampleNames)
	r.Kernels = append(r.Kernels, result.Kernel{
		Line: "rc", Unavailable: "no package of a release candidate in the archive",
	})
	return r
}

// sampleOutlines tell of each scenario its folder, and a chart of two hosts.
func sampleOutlines(names []string) map[string]result.Outline {
	all := map[string]result.Outline{}
	for _, name := range names {
		all[name] = result.Outline{Tags: []string{"one link", folder(name)}, Chart: &result.Chart{
			Hosts: []result.ChartHost{{Name: "client"}, {Name: "server", Watched: []string{"eth0"}}},
			Items: []result.ChartItem{
				{Kind: "step", Line: 9, Text: "tcp: client:40000 > server:80"},
				{Kind: "message", Text: "TCP 40000→80 SYN seq=0", From: 0, To: 1, Seen: []int{1}},
				{Kind: "message", Text: "TCP SYN,ACK seq=0 ack=1", From: 1, To: 0, Count: 2, Seen: []int{1},
					Marks: []string{"retransmission"}},
				{Kind: "message", Text: "UDP 5353→5353, 40 B", From: 1, To: result.All},
				{Kind: "event", Line: 14, Text: "advance: 11s"},
			}}}
	}
	return all
}

// sampleNames are scenarios as a tree has them.
var sampleNames = []string{
	"icmp/echo", "icmp/echo-v6", "icmp/unreachable", "l2/non-ip", "l2/qinq", "l2/vlan",
	"l3/bridge", "l3/mtu", "l3/routed", "lifecycle/adopt", "lifecycle/stop", "load/conserved",
	"load/table-full", "tcp/close", "tcp/handshake-v4", "tcp/handshake-v6", "tcp/half-open",
	"tcp/reset", "tcp/retransmission", "tcp/simultaneous-open", "tcp/port-reuse",
	"udp/one-way", "udp/request-reply", "udp/zero-length",
}

// sampleScenarios are the results on one kernel.
func sampleScenarios(line string, i int) []result.Scenario {
	var list []result.Scenario
	for j, name := range sampleNames {
		list = append(list, result.Scenario{
			Name:      name,
			Summary:   "what " + name + " is about, in a sentence",
			Verdict:   result.Pass,
			Millis:    int64(41 + (j*37+i*13)%80),
			Packets:   uint64(j + 2),
			AgentLog:  "level=INFO msg=\"agent started\" ifaces=1\nlevel=INFO msg=stopped\n",
			Reproduce: fmt.Sprintf("weir vm run --kernel %s --run '^%s$'", line, name),
		})
	}
	for _, c := range sampleRed {
		for _, on := range strings.Fields(c.on) {
			if on == line {
				c.scenario.apply(list)
			}
		}
	}
	return list
}

// patch replaces what a scenario's result says.
type patch result.Scenario

func (p patch) apply(list []result.Scenario) {
	for i := range list {
		if s := &list[i]; s.Name == p.Name {
			s.Verdict, s.Reason, s.Differences = p.Verdict, p.Reason, p.Differences
			if p.Console != "" {
				s.Console = p.Console
			}
		}
	}
}

const sampleConsole = "" +
	`[    3.112904] BUG: kernel NULL pointer dereference, address: 0000000000000018
[    3.112911] #PF: supervisor read access in kernel mode
[    3.112919] RIP: 0010:htab_map_update_elem+0x4b/0x2f0
[    3.112931] Call Trace:
[    3.112934]  <IRQ>
[    3.112936]  bpf_prog_3f2a91c06d2b7f1e_weir_ingress+0x1e2/0x59d
[    3.112941]  tcx_run+0x3d/0x90
[    3.112948] Kernel panic - not syncing: Fatal exception in interrupt
`

// sampleRed are the results that are not as expected.
var sampleRed = []struct {
	on       string
	scenario patch
}{
	{"6.1 6.12", patch{Name: "tcp/handshake-v4", Verdict: result.Fail,
		Reason: "2 differences from the golden file, 1 from the model",
		Differences: []result.Difference{
			{Section: "flows", Against: "golden", Kind: "differs",
				Record: "{src: client:40000, dst: server:80, proto: tcp, end: end-detected}",
				Fields: []result.Field{
					{Name: "packets", Want: "6", Got: "5"},
					{Name: "bytes", Want: "444", Got: "390"},
					{Name: "flags", Want: "SYN|PSH|ACK|FIN", Got: "SYN|ACK|FIN"},
					{Name: "seen", Want: "[server/eth0 ingress]", Got: ""},
				}},
			{Section: "flows", Against: "golden", Kind: "missing",
				Record: "{src: server:80, dst: client:40000, proto: tcp, packets: 4, bytes: 1616}"},
			{Section: "connections", Against: "model", Kind: "duplicate",
				Record: "{client: client:40000, server: server:80, proto: tcp, state: closed}"},
		}}},
	{"7.1", patch{Name: "load/conserved", Verdict: result.Fail,
		Reason: "conservation: 3 packets are neither accounted nor lost",
		Differences: []result.Difference{
			{Section: "conservation", Against: "witness", Kind: "differs",
				Record: "server/eth0 ingress", Fields: []result.Field{
					{Name: "packets", Want: "40000", Got: "39997"}}},
			{Section: "flows", Against: "golden", Kind: "extra",
				Record: "{src: client:5353, dst: 224.0.0.251:5353, proto: udp, packets: 1}"},
		}}},
	{"5.10", patch{Name: "l2/qinq", Verdict: result.Skip,
		Reason: "needs feature tcx, from kernel 6.6 on"}},
	{"6.18", patch{Name: "lifecycle/adopt", Verdict: result.Panic,
		Reason: "NULL pointer dereference in htab_map_update_elem", Console: sampleConsole}},
	{"newest", patch{Name: "lifecycle/stop", Verdict: result.Splat,
		Reason: "WARNING: CPU: 0 at net/core/dev.c:5601", Console: sampleConsole[:280]}},
	{"6.18", patch{Name: "load/table-full", Verdict: result.Hang,
		Reason: "no sign of life for 20 s", Console: sampleConsole[:180]}},
	{"5.10", patch{Name: "tcp/half-open", Verdict: result.Exit,
		Reason: "the guest powered off before its last record"}},
	{"5.10", patch{Name: "tcp/reset", Verdict: result.Missing,
		Reason: "planned, but no record came"}},
	{"7.1", patch{Name: "udp/one-way", Verdict: result.Corrupt,
		Reason: "frame 17: checksum is 9f01, not 77aa"}},
	{"newest", patch{Name: "udp/zero-length", Verdict: result.Error,
		Reason: "create bridge br0: operation not supported"}},
}

// large is a report of 7 kernels x 120 scenarios; every red-th cell is red with much to show.
func large(red, log int) *result.Report {
	r := sample()
	r.Kernels[6].Unavailable, r.Outlines = "", largeOutlines()
	noise := strings.Repeat("[    1.000000] a line the kernel printed meanwhile, with numbers 0x1f\n",
		1+log/70)[:log]
	for i := range r.Kernels {
		k := &r.Kernels[i]
		k.Scenarios = nil
		for j := range 120 {
			s := result.Scenario{
				Name: fmt.Sprintf("folder%02d/scenario-%03d", j/10, j), Verdict: result.Pass,
				Summary: "a sentence that tells what the scenario is about", Millis: 70,
				AgentLog: noise, Console: noise, Packets: 12,
				Reproduce: fmt.Sprintf("weir vm run --kernel %s --run scenario-%03d", k.Line, j),
			}
			if red > 0 && (i*120+j)%red == 0 {
				s.Verdict, s.Reason = result.Fail, "many differences"
				for d := range 1000 {
					s.Differences = append(s.Differences, result.Difference{
						Section: "flows", Against: "golden", Kind: "missing",
						Record: fmt.Sprintf("{src: client:%d, dst: server:80, proto: tcp}", d),
					})
				}
			}
			k.Scenarios = append(k.Scenarios, s)
		}
	}
	return r
}

// largeOutlines have a full chart for each scenario of large.
func largeOutlines() map[string]result.Outline {
	var names []string
	for j := range 120 {
		names = append(names, fmt.Sprintf("folder%02d/scenario-%03d", j/10, j))
	}
	all := sampleOutlines(names)
	for _, o := range all {
		for len(o.Chart.Items) < 60 {
			o.Chart.Items = append(o.Chart.Items, o.Chart.Items[1])
		}
	}
	return all
}

// evil is a report whose every text is hostile.
func evil() *result.Report {
	return &result.Report{Command: hostile, Weir: hostile,
		Outlines: map[string]result.Outline{hostile: {Tags: []string{hostile}, Chart: &result.Chart{
			Hosts: []result.ChartHost{{Name: hostile, Watched: []string{hostile}}},
			Items: []result.ChartItem{{Kind: "step", Text: hostile}, {Kind: "message", Text: hostile, To: 9, Seen: []int{7}}}}}},
		Flaky: []result.Flake{{Scenario: hostile, Kernel: hostile, Version: hostile, Weir: hostile, Reason: hostile}},
		Kernels: []result.Kernel{
			{Line: hostile, Version: hostile, Package: hostile, SHA256: hostile, Accel: hostile, Millis: 9,
				Verified: map[string]int{hostile: 3}, Instructions: map[string]float64{hostile: 1}, Drift: []string{hostile},
				Scenarios: []result.Scenario{{Name: hostile, Change: hostile, Summary: hostile, Verdict: result.Fail,
					Reason: hostile, Notes: []string{hostile}, AgentLog: hostile, Console: hostile + "\x00\xff", Reproduce: hostile,
					Differences: []result.Difference{{Section: hostile, Against: hostile,
						Kind: hostile, Record: hostile,
						Fields: []result.Field{{Name: hostile, Want: hostile, Got: "x"}}}}},
					{Name: hostile + "/skip", Verdict: result.Skip, Reason: hostile}}},
			{Line: hostile, Unavailable: hostile},
		}}
}
