package agent

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/bpf"
)

// rules is a configuration with rules in the form of files.
func rules(lines ...string) string {
	return smallest + "filters:\n  rules:\n    - " + strings.Join(lines, "\n    - ") + "\n"
}

func TestFilterRules(t *testing.T) {
	prefix := netip.MustParsePrefix
	synOnly, both := uint8(flow.SYN), uint8(flow.SYN|flow.ACK)
	for text, want := range map[string]bpf.Rule{
		"{action: reject}":                          {Reject: true},
		"{action: accept, family: 6}":               {Family: 6},
		"{action: accept, protocol: tcp}":           {Protocol: 7},
		"{action: accept, protocol: udp}":           {Protocol: 18},
		"{action: accept, protocol: icmp}":          {Protocol: 2},
		"{action: accept, protocol: icmpv6}":        {Protocol: 59},
		"{action: accept, protocol: sctp}":          {Protocol: 133},
		"{action: accept, protocol: 47}":            {Protocol: 48},
		"{action: accept, protocol: '0'}":           {Protocol: 1},
		"{action: accept, protocol: 255}":           {Protocol: 256},
		"{action: accept, src: 10.0.0.0/8}":         {Src: prefix("10.0.0.0/8")},
		"{action: accept, dst: 2001:db8::/32}":      {Dst: prefix("2001:db8::/32")},
		"{action: accept, src: 10.0.0.1}":           {Src: prefix("10.0.0.1/32")},
		"{action: accept, dst: '::1'}":              {Dst: prefix("::1/128")},
		"{action: accept, src: 0.0.0.0/0}":          {Src: prefix("0.0.0.0/0")},
		"{action: accept, src: ::/0, family: 6}":    {Family: 6, Src: prefix("::/0")},
		"{action: accept, src_port: 53}":            {SrcPort: bpf.PortRange{From: 53, To: 53}},
		"{action: accept, dst_port: 8000-9000}":     {DstPort: bpf.PortRange{From: 8000, To: 9000}},
		"{action: accept, dst_port: 1-65535}":       {DstPort: bpf.PortRange{From: 1, To: 65535}},
		"{action: accept, tcp_flags: SYN/SYN}":      {FlagsMatch: synOnly, FlagsMask: synOnly},
		"{action: accept, tcp_flags: SYN/ACK|SYN}":  {FlagsMatch: synOnly, FlagsMask: both},
		"{action: accept, tcp_flags: none/ACK|SYN}": {FlagsMask: both},
		"{action: accept, protocol: sctp, tcp_flags: SYN|ACK/SYN|ACK}": {Protocol: 133,
			FlagsMatch: both, FlagsMask: both},
		"{action: accept, icmp: 3}":                   {ICMPType: 4},
		"{action: accept, icmp: 3/1}":                 {ICMPType: 4, ICMPCode: 2},
		"{action: accept, icmp: 0/0}":                 {ICMPType: 1, ICMPCode: 1},
		"{action: accept, icmp: 255/255}":             {ICMPType: 256, ICMPCode: 256},
		"{action: accept, protocol: icmpv6, icmp: 1}": {Protocol: 59, ICMPType: 2},
		"{action: reject, protocol: udp, src: 10.0.0.0/8, dst: 10.1.0.0/16, src_port: 53, " +
			"dst_port: 80, either: true}": {Reject: true, Protocol: 18, Src: prefix("10.0.0.0/8"),
			Dst: prefix("10.1.0.0/16"), SrcPort: bpf.PortRange{From: 53, To: 53},
			DstPort: bpf.PortRange{From: 80, To: 80}, Either: true},
	} {
		t.Run(text, func(t *testing.T) {
			c, err := ParseConfig("weir.yaml", []byte(rules("{action: accept}", text)))
			require.NoError(t, err)
			o, err := c.DatapathOptions()
			require.NoError(t, err)
			require.Equal(t, bpf.Filter{Rules: []bpf.Rule{{}, want}}, o.Filter)
		})
	}
}

func TestFilterDefaultsAndSample(t *testing.T) {
	for text, want := range map[string]bpf.Settings{
		"":                                      {Sample: 1},
		"filters: {}":                           {Sample: 1},
		"filters: {default: accept}":            {Sample: 1},
		"sample: 100":                           {Sample: 100},
		"sample: 4294967295":                    {Sample: 1<<32 - 1},
		"filters: {default: reject}":            {Sample: 1, Filter: bpf.Filter{Reject: true}},
		"filters: {default: reject, rules: []}": {Sample: 1, Filter: bpf.Filter{Reject: true}},
	} {
		c, err := ParseConfig("weir.yaml", []byte(smallest+text))
		require.NoError(t, err, text)
		o, err := c.DatapathOptions()
		require.NoError(t, err)
		require.Equal(t, want.Sample, o.Sample, text)
		require.Equal(t, want.Filter, o.Filter, text)
	}
}

// An error names the rule, its key, and what would be right.
func TestFilterRefuses(t *testing.T) {
	for text, want := range map[string][]string{
		"{src: 10.0.0.0/8}":                                {"action: is missing", "accept or reject"},
		"{action: drop}":                                   {`action: "drop"`, "accept or reject"},
		"{action: accept, family: 5}":                      {"family: 5", "4 or 6"},
		"{action: accept, protocol: gre}":                  {`protocol: "gre"`, "tcp, udp, icmp, icmpv6, sctp", "0 to 255"},
		"{action: accept, protocol: 256}":                  {`protocol: "256"`},
		"{action: accept, protocol: -1}":                   {`protocol: "-1"`},
		"{action: accept, src: 10.0.0}":                    {`src: "10.0.0"`, "a prefix like 10.0.0.0/8"},
		"{action: accept, dst: 10.0.0.0/33}":               {`dst: "10.0.0.0/33"`},
		"{action: accept, dst: fe80::1%eth0}":              {`dst: "fe80::1%eth0"`},
		"{action: accept, dst: 10.0.0.1/8}":                {`dst: "10.0.0.1/8"`, "the prefix is 10.0.0.0/8"},
		"{action: accept, dst: host}":                      {`dst: "host"`},
		"{action: accept, src_port: 0}":                    {`src_port: "0"`, "1 to 65535"},
		"{action: accept, src_port: 65536}":                {`src_port: "65536"`},
		"{action: accept, dst_port: 9-8}":                  {`dst_port: "9-8"`, "a range like 8000-9000"},
		"{action: accept, dst_port: 0-8}":                  {`dst_port: "0-8"`},
		"{action: accept, dst_port: 8-}":                   {`dst_port: "8-"`},
		"{action: accept, dst_port: 1-2-3}":                {`dst_port: "1-2-3"`},
		"{action: accept, dst_port: http}":                 {`dst_port: "http"`},
		"{action: accept, tcp_flags: SYN}":                 {`tcp_flags: "SYN"`, "match/mask", "SYN/SYN|ACK"},
		"{action: accept, tcp_flags: SYM/SYN}":             {`tcp_flags: unknown TCP flag "SYM"`},
		"{action: accept, tcp_flags: SYN/none}":            {`tcp_flags: unknown TCP flag "none"`},
		"{action: accept, tcp_flags: SYN/}":                {"tcp_flags: ", "looks at no flag"},
		"{action: accept, tcp_flags: /SYN}":                {"tcp_flags: ", "no match"},
		"{action: accept, tcp_flags: '|/SYN'}":             {"tcp_flags: ", "no match"},
		"{action: accept, tcp_flags: SYN|RST/SYN}":         {"tcp_flags: RST is not in the mask"},
		"{action: accept, icmp: 256}":                      {`icmp: "256"`, "3/1"},
		"{action: accept, icmp: 3/}":                       {`icmp: "3/"`},
		"{action: accept, icmp: 3/256}":                    {`icmp: "3/256"`},
		"{action: accept, icmp: echo}":                     {`icmp: "echo"`},
		"{action: accept, src: 10.0.0.0/8, dst: fd00::/8}": {"dst: fd00::/8 is IPv6, but src says IPv4"},
		"{action: accept, family: 6, src: 10.0.0.0/8}":     {"src: 10.0.0.0/8 is IPv4, but family says IPv6"},
		"{action: accept, protocol: icmp, dst_port: 5}":    {"dst_port: protocol icmp has no ports", "tcp, udp"},
		"{action: accept, protocol: 47, src_port: 5}":      {"src_port: protocol 47 has no ports"},
		"{action: accept, protocol: udp, tcp_flags: SYN/SYN}": {"tcp_flags: protocol udp has no flags",
			"tcp and sctp"},
		"{action: accept, protocol: tcp, icmp: 3}":      {"icmp: protocol tcp has no ICMP type"},
		"{action: accept, dst_port: 3, icmp: 3}":        {"icmp: no packet has"},
		"{action: accept, tcp_flags: SYN/SYN, icmp: 3}": {"icmp: no packet has"},
		"{action: accept, protocol: icmp, icmp: 3, src: fd00::/8}": {"icmp: IPv6 has no types of icmp",
			"icmpv6 with IPv6"},
		"{action: accept, protocol: icmpv6, icmp: 3, family: 4}": {"icmp: IPv4 has no types of icmpv6"},
	} {
		t.Run(text, func(t *testing.T) {
			c, err := ParseConfig("weir.yaml", []byte(rules("{action: accept}", "{action: reject}", text)))
			require.Error(t, err, "%+v", c.Filters)
			require.Regexp(t, `^weir\.yaml:6:\d+: filters\.rules\[2\]\.`+regexp.QuoteMeta(want[0]), err.Error())
			var rule *RuleError
			require.True(t, errors.As(err, &rule))
			for _, part := range want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestFiltersRefuse(t *testing.T) {
	many := make([]string, bpf.MaxRules+1)
	for i := range many {
		many[i] = "{action: accept}"
	}
	for text, want := range map[string]string{
		smallest + "filters: {default: drop}":      `weir.yaml:2:20: filters.default: "drop"; want accept or reject`,
		rules(many...):                             "weir.yaml:4:5: filters.rules: 513 of them; at most 512",
		smallest + "sample: 0":                     "weir.yaml:2:9: sample: 0 would count nothing; want 1",
		smallest + "sample: -1":                    "weir.yaml:2:9: sample: ",
		smallest + "sample: 4294967296":            "weir.yaml:2:9: sample: ",
		smallest + "filters: {defualt: accept}":    "weir.yaml:2:11: ",
		rules("{action: accept, sport: 5}"):        "weir.yaml:4:24: ",
		rules("{action: accept, family: 260}"):     "weir.yaml:4:32: family: ",
		rules("{action: accept, either: perhaps}"): "weir.yaml:4:32: either: ",
	} {
		_, err := ParseConfig("weir.yaml", []byte(text))
		require.ErrorContains(t, err, want)
	}
	_, err := ParseConfig("weir.yaml", []byte(rules(many[1:]...)))
	require.NoError(t, err)
}

// A configuration that is written and read again is the same: the harness does so.
func TestFiltersRoundTrip(t *testing.T) {
	c, err := ParseConfig("weir.yaml", []byte(rules("{action: reject, src: 2001:db8::/32, dst: ::1, "+
		"protocol: 6, src_port: 53, dst_port: 8-9, tcp_flags: none/SYN|ACK, either: true}",
		"{action: accept, icmp: 3/1, family: 4}")+"sample: 7\n"))
	require.NoError(t, err)
	data, err := yaml.Marshal(c)
	require.NoError(t, err)
	again, err := ParseConfig("weir.yaml", data)
	require.NoError(t, err, "%s", data)
	require.Equal(t, c.Filters, again.Filters)
	require.Equal(t, c.Sample, again.Sample)
}

// Records tell the factor only where not all connections are counted.
func TestRecordsTellSample(t *testing.T) {
	for sample, want := range map[uint32]uint32{1: 0, 2: 2, 1<<32 - 1: 1<<32 - 1} {
		sink := &lastRecord{}
		r := &recorder{sink: sink, sampling: sample, decorate: flow.Decorate(netip.Addr{}, func(uint16) flow.Hook { return flow.Hook{} }),
			ends: newEnds(sink, nil)}
		e := &bpf.Entry{}
		e.Legs[0].Packets = 1
		require.NoError(t, r.connection(e, [2]bpf.Count{}, flow.EndIdle))
		require.Equal(t, want, sink.record.Sampling)
	}
}

// lastRecord keeps the last record.
type lastRecord struct{ record flow.Record }

func (s *lastRecord) Write(r *flow.Record) error { s.record = *r; return nil }

func (s *lastRecord) Flush() error { return nil }
