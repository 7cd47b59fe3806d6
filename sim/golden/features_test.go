package golden

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
)

// ofFeatures is what an agent with all features may tell.
func ofFeatures() *Output {
	ns := int64(25_000_000)
	rec := flow.Record{Boot: "a", Sequence: 1, Flow: 1, Src: client, Dst: server, SrcPort: 1, DstPort: 53,
		Protocol: 17, Packets: 1, Bytes: 50, Role: flow.RoleInitiator, State: "replied",
		Reason: flow.EndActive, RTTSamples: 3, Handshake: &flow.Handshake{Server: &ns, SYNACKRepeats: 2},
		Lookups: &flow.Lookups{Answered: 1, Failed: 1, Max: 5, Rcode: "NXDOMAIN"}}
	last := rec
	last.Sequence, last.PacketsBefore, last.Reason = 2, 1, flow.EndForced
	last.RTTSamples, last.Handshake = 0, nil
	last.Lookups = &flow.Lookups{Answered: 1, Unanswered: 2, Max: 7, Rcode: "NOERROR"}
	return &Output{
		Flows: []flow.Record{rec, last},
		DNS: []flow.DNS{
			{Boot: "a", Sequence: 1, Outcome: flow.DNSAnswered, Client: client, ClientPort: 1, Server: server,
				ServerPort: 53, Protocol: 17, ID: 9, Name: `a\.b.`, Type: "A", Rcode: "NOERROR",
				Truncated: true, Latency: &ns, Repeats: 1},
			{Boot: "a", Sequence: 2, Outcome: flow.DNSUnreadable, Reason: "short", Messages: 2},
			{Boot: "a", Sequence: 3, Outcome: flow.DNSUnreadable, Reason: "short", Messages: 3},
		},
		Drops: []flow.Drop{
			{NetNS: 7, Src: client, Dst: server, SrcPort: 1, DstPort: 9, Protocol: 17, Reason: "no-socket", Packets: 2},
			{NetNS: 7, Src: client, Dst: server, SrcPort: 1, DstPort: 9, Protocol: 17, Reason: "no-socket", Packets: 1},
			{NetNS: 8, Src: client, Dst: server, Protocol: 17, Reason: "elsewhere", Packets: 1},
		},
	}
}

func canonicalFeatures(t *testing.T, out *Output) *Golden {
	flows, diffs := Records(out.Flows, testNames())
	require.Empty(t, diffs)
	dns, diffs := TakeDNS(out.DNS, testNames())
	require.Empty(t, diffs)
	return &Golden{Flows: flows, DNS: dns, Drops: Drops(out.Drops, testNames(), map[uint64]string{7: "b"})}
}

// TestFeaturesRoundTrip: what the features told is added up, and reads back from a golden file.
func TestFeaturesRoundTrip(t *testing.T) {
	g := canonicalFeatures(t, ofFeatures())
	require.Len(t, g.Flows, 1)
	f := g.Flows[0]
	require.Equal(t, "measured", f.RTT)
	require.Equal(t, "server 25ms syn-ack-repeats 2", f.Handshake)
	require.Equal(t, "answered 2 failed 1 max 7ns last NOERROR unanswered 2", f.Lookups)
	require.Len(t, g.DNS, 2)
	require.EqualValues(t, 5, g.DNS[0].Messages)
	require.Len(t, g.Drops, 1)
	require.Equal(t, N(3), g.Drops[0].Packets)

	read, err := Decode("g.yaml", Encode(g))
	require.NoError(t, err)
	require.Empty(t, Compare(g, read, "golden"))
	require.Empty(t, Compare(read, g, "golden"))
	require.Equal(t, g.DNS, read.DNS)
	require.Equal(t, g.Drops, read.Drops)

	known := g.Modelled()
	require.Empty(t, known.Drops)
	require.Empty(t, known.Flows[0].RTT)
	require.Equal(t, "measured", g.Flows[0].RTT, "the original is as it was")
}

// TestFeaturesDiffer: each value shows.
func TestFeaturesDiffer(t *testing.T) {
	want := canonicalFeatures(t, ofFeatures())
	for name, change := range map[string]func(*Output){
		"latency":   func(o *Output) { *o.DNS[0].Latency++ },
		"name":      func(o *Output) { o.DNS[0].Name = "other." },
		"truncated": func(o *Output) { o.DNS[0].Truncated = false },
		"repeats":   func(o *Output) { o.DNS[0].Repeats = 0 },
		"messages":  func(o *Output) { o.DNS[1].Messages++ },
		"one less":  func(o *Output) { o.DNS = o.DNS[:1] },
		"reason":    func(o *Output) { o.Drops[0].Reason = "other" },
		"host":      func(o *Output) { o.Drops[0].NetNS = 8 },
		"handshake": func(o *Output) { o.Flows[1].Handshake = o.Flows[0].Handshake },
		"lookups":   func(o *Output) { o.Flows[1].Lookups = nil },
		"rtt":       func(o *Output) { o.Flows[0].RTTSamples = 0 },
	} {
		out := ofFeatures()
		change(out)
		require.NotEmpty(t, Compare(want, canonicalFeatures(t, out), "golden"), name)
	}
	out := ofFeatures()
	out.DNS[2].Sequence = 4
	_, diffs := TakeDNS(out.DNS, testNames())
	require.Len(t, diffs, 1)
}

func TestDecodeFeaturesRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"dns: [{outcome: asked, reason: short}]":                                             "is none of answered",
		"dns: [{outcome: answered, client: a:1}]":                                            "either client, server and proto, or a reason",
		"dns: [{outcome: answered, client: a:1, server: b:53, proto: udp, latency: 1000ms}]": "is no duration",
		`dns: [{outcome: answered, client: "a:*", server: b:53, proto: udp}]`:                "does not leave this value free",
		"drops: [{host: a}]": "has no src",
		"drops: [{host: a, src: a:1, dst: b:2, proto: udp, reason: x, packets: \"*\"}]": "does not leave this value free",
	} {
		_, err := Decode("g.yaml", []byte("flows: []\nconnections: []\n"+text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestFeaturesFree(t *testing.T) {
	g := canonicalFeatures(t, ofFeatures())
	require.NoError(t, g.Free("client_port", "src_port", "packets"))
	require.Equal(t, "*", g.DNS[1].Client.Port)
	require.Equal(t, "*", g.Drops[0].Packets.String())
}
