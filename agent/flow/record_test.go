package flow

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTCPFlags(t *testing.T) {
	for f := range 256 {
		want := TCPFlags(f)
		got, err := ParseTCPFlags(want.String())
		require.NoError(t, err)
		require.Equal(t, want, got)
		var back TCPFlags
		text, err := want.MarshalText()
		require.NoError(t, err)
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, want, back)
	}
	require.Equal(t, "SYN|ACK", (ACK | SYN).String())
	require.Equal(t, TCPFlags(0xff), FIN|SYN|RST|PSH|ACK|URG|ECE|CWR)
}

func TestParseTCPFlags(t *testing.T) {
	tests := []struct {
		text string
		want TCPFlags
		err  string
	}{
		{"", 0, ""},
		{"SYN", SYN, ""},
		{"SYN,ACK", SYN | ACK, ""},
		{"ACK | SYN", SYN | ACK, ""},
		{"SYN|SYN", SYN, ""},
		{"syn", 0, `unknown TCP flag "syn": known are FIN SYN RST PSH ACK URG ECE CWR`},
		{"SYN|", SYN, ""},
		{"NS", 0, `unknown TCP flag "NS"`},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			got, err := ParseTCPFlags(test.text)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	kept := SYN
	require.Error(t, kept.UnmarshalText([]byte("SIN")))
	require.Equal(t, SYN, kept, "an error changes nothing")
}

func FuzzParseTCPFlags(f *testing.F) {
	for _, s := range []string{"", "SYN|ACK", "FIN,RST", " PSH |", "SIN", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		flags, err := ParseTCPFlags(s)
		if err != nil {
			return
		}
		again, err := ParseTCPFlags(flags.String())
		require.NoError(t, err)
		require.Equal(t, flags, again)
	})
}

func TestEndReason(t *testing.T) {
	// IANA "IPFIX Information Elements", flowEndReason.
	names := []string{1: "idle", 2: "active", 3: "end-detected", 4: "forced", 5: "lack-of-resources"}
	for code, name := range names {
		if name == "" {
			continue
		}
		require.Equal(t, name, EndReason(code).String())
		var back EndReason
		require.NoError(t, back.UnmarshalText([]byte(name)))
		require.Equal(t, EndReason(code), back)
	}
	require.Equal(t, "end-reason-0", EndReason(0).String())
	kept := EndIdle
	require.EqualError(t, kept.UnmarshalText([]byte("idel")), `unknown end reason "idel"`)
	require.Equal(t, EndIdle, kept)
}

func TestHookString(t *testing.T) {
	h := Hook{Interface: "eth0", Direction: Ingress}
	require.Equal(t, "eth0 ingress", h.String())
	h.Namespace = "blue"
	require.Equal(t, "blue/eth0 ingress", h.String())
}

// TestRecordRoundTrip reads a record with every field back from its JSON form.
func TestRecordRoundTrip(t *testing.T) {
	want := Record{
		Boot: "b", Sequence: 1, Flow: 2, Zone: 3, Src: netip.MustParseAddr("2001:db8::1"),
		Dst: netip.MustParseAddr("2001:db8::2"), SrcPort: 4, DstPort: 5, Protocol: 6, Cites: 7,
		ICMPType: 8, ICMPCode: 9, ICMPID: 10, Packets: 11, Bytes: 12, PacketsBefore: 13, BytesBefore: 14,
		Flags: SYN | CWR, Start: 14, End: 15, Role: RoleResponder, State: "closed",
		Reason: EndDetected, ICMPError: "3/1", Seen: []Hook{{"ns", "eth0", Egress}},
	}
	text, err := json.Marshal(want)
	require.NoError(t, err)
	var got Record
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, want, got)
}
