package collector

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// message joins a header and sets; of IPFIX it fills in the length.
func message(version uint16, sets ...[]byte) []byte {
	m := binary.BigEndian.AppendUint16(nil, version)
	if version == 9 {
		m = append(m, make([]byte, 18)...)
	} else {
		m = append(m, make([]byte, 14)...)
	}
	for _, s := range sets {
		m = append(m, s...)
	}
	if version == 10 {
		binary.BigEndian.PutUint16(m[2:], uint16(len(m)))
	}
	return m
}

func set(id uint16, words ...any) []byte {
	var body []byte
	for _, w := range words {
		switch w := w.(type) {
		case int:
			body = binary.BigEndian.AppendUint16(body, uint16(w))
		case []byte:
			body = append(body, w...)
		}
	}
	head := binary.BigEndian.AppendUint16(nil, id)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(body)+4)), body...)
}

func TestDecode(t *testing.T) {
	template := []any{256, 4, 8, 4, 7, 2, 2, 4, 4, 1} // source address, port, packets, protocol
	flow := []byte{192, 0, 2, 1, 0, 80, 0, 0, 0, 9, 6}
	want := Record{"sourceIPv4Address": "192.0.2.1", "sourceTransportPort": uint64(80),
		"packetDeltaCount": uint64(9), "protocolIdentifier": uint64(6)}
	for name, tc := range map[string]struct {
		version uint16
		id      uint16
	}{"NetFlow 9": {9, netflowTemplates}, "IPFIX": {10, ipfixTemplates}} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder()
			got, err := d.Decode(message(tc.version, set(256, flow)))
			require.NoError(t, err)
			require.Empty(t, got)
			require.Equal(t, 1, d.Skipped)
			got, err = d.Decode(message(tc.version, set(tc.id, template...), set(256, flow, flow, []byte{0, 0, 0})))
			require.NoError(t, err)
			require.Equal(t, []Record{want, want}, got)
			got, err = d.Decode(message(tc.version, set(256, flow)))
			require.NoError(t, err)
			require.Len(t, got, 1)
		})
	}
}

func TestDecodeIPFIX(t *testing.T) {
	d := NewDecoder()
	// An element of an enterprise, one of variable length, an IPv6 address, one we do not know.
	got, err := d.Decode(message(10,
		set(ipfixTemplates, 300, 4, enterprise|12, 2, []byte{0, 0, 0, 9}, 400, variable, 27, 16, 401, 1),
		set(300, []byte{1, 2, 3, 'a', 'b', 'c'}, []byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, []byte{7})))
	require.NoError(t, err)
	require.Equal(t, []Record{{"element-9-12": "0102", "element-400": "616263",
		"sourceIPv6Address": "2001:db8::1", "element-401": "07"}}, got)
	// A biflow's other direction, a name.
	got, err = d.Decode(message(10,
		set(ipfixTemplates, 302, 2, enterprise|2, 1, []byte{0, 0, 0x72, 0x79}, 82, variable),
		set(302, []byte{3, 4, 'e', 't', 'h', '0'})))
	require.NoError(t, err)
	require.Equal(t, []Record{{"reversePacketDeltaCount": uint64(3), "interfaceName": "eth0"}}, got)
	// Options are about the exporter; a withdrawn template is gone.
	got, err = d.Decode(message(10, set(ipfixOptions, 301, 1, 1, 41, 8), set(301, make([]byte, 8)),
		set(ipfixTemplates, 300, 0), set(300, make([]byte, 20))))
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, 1, d.Skipped)
}

// recorded is a message that softflowd 1.1.0 sent of golden/tcp/request-response, read from a capture.
func recorded(t testing.TB, version string) []byte {
	text, err := os.ReadFile("testdata/softflowd-" + version + ".hex")
	require.NoError(t, err)
	message, err := hex.DecodeString(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return message
}

func TestDecodeSoftflowd(t *testing.T) {
	for _, version := range []string{"9", "10"} {
		d := NewDecoder()
		got, err := d.Decode(recorded(t, version))
		require.NoError(t, err)
		require.Zero(t, d.Skipped)
		require.Len(t, got, 2)
		for i, want := range []Record{
			{"sourceIPv4Address": "10.0.0.1", "destinationIPv4Address": "10.0.0.2", "sourceTransportPort": uint64(40000),
				"destinationTransportPort": uint64(80), "packetDeltaCount": uint64(6), "octetDeltaCount": uint64(360)},
			{"sourceIPv4Address": "10.0.0.2", "destinationIPv4Address": "10.0.0.1", "sourceTransportPort": uint64(80),
				"destinationTransportPort": uint64(40000), "packetDeltaCount": uint64(4), "octetDeltaCount": uint64(1560)},
		} {
			for name, value := range want {
				require.Equal(t, value, got[i][name], "%s of record %d in version %s", name, i, version)
			}
			require.Equal(t, uint64(6), got[i]["protocolIdentifier"])
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	long := message(10, set(256))
	long[3] = 200
	for name, tc := range map[string]struct {
		message []byte
		want    string
	}{
		"empty":           {nil, "shorter"},
		"version 5":       {message(5), "version 5 is neither"},
		"short":           {message(9)[:18], "shorter"},
		"options":         {message(9, set(netflowOptions, 256, 4, 9, []byte{0, 0, 0, 0})), "shorter"},
		"options of none": {message(9, set(netflowOptions, 255, 0, 4, []byte{0, 0, 0, 0})), "identifier 255"},
		"its length":      {long, "shorter"},
		"set":             {append(message(9), 1, 0, 0, 99), "shorter"},
		"fields":          {message(10, set(ipfixTemplates, 256, 3, 1, 2)), "shorter"},
		"many fields":     {message(10, set(ipfixTemplates, 256, 9999)), "9999 fields"},
		"identifier":      {message(10, set(ipfixTemplates, 255, 1, 1, 2)), "identifier 255"},
		"no bytes":        {message(10, set(ipfixTemplates, 256, 1, 4, 0)), "are empty"},
		"variable in 9":   {message(9, set(netflowTemplates, 256, 1, 1, variable)), "variable length"},
		"variable length": {message(10, set(ipfixTemplates, 256, 1, 400, variable), set(256, []byte{9, 1})), "shorter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewDecoder().Decode(tc.message)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message(9, set(netflowTemplates, 256, 1, 4, 1)), message(9, set(256, []byte{6})))
	f.Add(message(10, set(ipfixTemplates, 256, 1, 400, variable)), message(10, set(256, []byte{3, 1, 2, 3})))
	for _, version := range []string{"9", "10"} {
		f.Add(recorded(f, version), recorded(f, version))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := NewDecoder()
		for _, m := range [][]byte{first, second} {
			records, _ := d.Decode(m)
			require.LessOrEqual(t, len(records), len(m))
			for _, r := range records {
				_, err := json.Marshal(r)
				require.NoError(t, err)
			}
		}
	})
}

func TestCollector(t *testing.T) {
	var b strings.Builder
	c, err := Listen("127.0.0.1:0", &b)
	require.NoError(t, err)
	conn, err := net.Dial("udp", c.Addr())
	require.NoError(t, err)
	for _, m := range [][]byte{message(9, set(256, []byte{6})), message(9, set(netflowTemplates, 256, 1, 4, 1)),
		message(9, set(256, []byte{17})), {1}} {
		_, err := conn.Write(m)
		require.NoError(t, err)
	}
	stats, err := c.Close()
	require.NoError(t, err)
	require.Equal(t, Stats{Messages: 4, Records: 1, Malformed: 1, WithoutTemplate: 1}, stats)
	require.JSONEq(t, `{"protocolIdentifier":17}`, b.String())
	_, err = Listen("nowhere:x", &b)
	require.ErrorContains(t, err, "listen: ")
}
