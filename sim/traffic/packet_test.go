package traffic

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// bytesOf is a payload of n bytes.
func bytesOf(n uint64) spec.Layer { return layer("payload", "length", n) }

func TestPacketsAreSound(t *testing.T) {
	cases := map[string]struct {
		over   [2]string
		layers []spec.Layer
		size   int
	}{
		"udp over IPv4":      {over4, []spec.Layer{layer("udp"), bytesOf(9)}, 51},
		"udp over IPv6":      {over6, []spec.Layer{layer("udp"), bytesOf(9)}, 71},
		"udp, odd and empty": {over6, []spec.Layer{layer("udp")}, 62},
		"tcp over IPv4": {over4, []spec.Layer{layer("tcp", "flags", "SYN,ECE,CWR", "seq", uint64(7)),
			bytesOf(3)}, 57},
		"tcp over IPv6": {over6, []spec.Layer{
			layer("ipv6", "hop_limit", uint64(3)), layer("tcp")}, 74},
		"tcp with options": {over4, []spec.Layer{layer("tcp", "options", "020405b4")}, 58},
		"icmp":             {over4, []spec.Layer{layer("icmp", "id", uint64(9)), bytesOf(8)}, 50},
		"icmpv6": {over6, []spec.Layer{
			layer("icmpv6", "type", "echo-reply"), bytesOf(5)}, 67},
		"one tag": {over4, []spec.Layer{
			layer("vlan", "id", uint64(7), "priority", uint64(5)), layer("udp")}, 46},
		"two tags": {over4, []spec.Layer{
			layer("vlan", "id", uint64(7)), layer("vlan", "id", uint64(8)), layer("udp")}, 50},
		"ipv4 fields": {over4, []spec.Layer{layer("ipv4", "tos", uint64(8),
			"flags", "DF", "id", uint64(99),
			"ttl", uint64(1)), layer("udp")}, 42},
		"arp": {over4, []spec.Layer{layer("arp")}, 42},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			frames := framesOf(t, testnet.Direct(), packetStep(c.over, c.layers...))
			require.Len(t, frames, 1)
			require.Len(t, frames[0].Data, c.size)
			require.Equal(t, "client/eth0", frames[0].Host+"/"+frames[0].Interface)
			require.True(t, frames[0].Wait)
			requireSound(t, frames[0].Data)
		})
	}
}

// TestBytes pins frames that no decoder takes, byte for byte.
func TestBytes(t *testing.T) {
	const link = "020000000002020000000001"
	const ip = "4500001d000100004011" // up to the checksum of a UDP packet with one byte
	cases := map[string]struct {
		over   [2]string
		layers []spec.Layer
		want   string
	}{
		"ethernet alone": {over4, []spec.Layer{layer("ethernet", "type", "lldp")}, link + "88cc"},
		"raw": {over4, []spec.Layer{layer("ethernet", "type", uint64(0x1234), "src", "02:00:00:00:00:09"),
			layer("raw", "hex", "de ad:be ef")}, "0200000000020200000000091234deadbeef"},
		"payload alone": {over4, []spec.Layer{bytesOf(3)}, link + "88b6616263"},
		"wrong lengths": {over4, []spec.Layer{layer("ipv4", "length", uint64(5), "checksum", uint64(0)),
			layer("udp", "length", uint64(4), "checksum", uint64(0xabcd))},
			link + "0800" + "4500000500010000401100000a0000010a000002" + "045708ae0004abcd"},
		"bad version and header length": {over4, []spec.Layer{
			layer("ipv4", "version", uint64(6), "ihl", uint64(2), "checksum", uint64(1)),
			layer("udp", "checksum", uint64(0))},
			link + "0800" + "6200001c00010000401100010a0000010a000002" + "045708ae00080000"},
		"cut in the transport header": {over4, []spec.Layer{layer("udp", "truncate", uint64(5)),
			bytesOf(1)}, link + "0800" + ip + "66cd0a0000010a000002" + "045708ae00"},
		"cut in the link header's tag": {over4, []spec.Layer{
			layer("vlan", "id", uint64(7), "truncate", uint64(2)),
			layer("udp")}, link + "8100" + "0007"},
		"extension headers": {over6, []spec.Layer{
			layer("ipv6ext", "type", "hop-by-hop"),
			layer("ipv6ext", "type", "routing", "data", "0400 000000000000000000000000"),
			layer("ipv6ext", "type", "fragment", "id", uint64(0x01020304), "more", true,
				"fragment_offset", uint64(2)),
			layer("ipv6ext", "type", "authentication"),
			layer("ipv6ext", "type", uint64(60), "length", uint64(200))},
			link + "86dd" + "6000000000400040" + "fd000000000000000000000000000001" +
				"fd000000000000000000000000000002" + "2b00010400000000" +
				"2c010400" + strings.Repeat("00", 12) + "3300001101020304" +
				"3c04" + strings.Repeat("00", 22) + "3bc8010400000000"},
		"chunks": {over6, []spec.Layer{layer("sctp", "tag", uint64(9), "checksum", uint64(0)),
			layer("chunk", "type", "init-ack", "tag", uint64(7), "length", uint64(99)),
			layer("chunk", "type", "cookie-echo", "data", "0102030405"), layer("chunk"), bytesOf(3)},
			link + "86dd" + "60000000003f" + "8440" + "fd000000000000000000000000000001" +
				"fd000000000000000000000000000002" + "045708ae0000000900000000" +
				"020000630000000700" + "00ffff" + "0001000100000000" + "0a00000901020304" + "05000000" +
				"00030013" + strings.Repeat("00", 12) + "616263"},
		"gre": {over4, []spec.Layer{layer("ipv4", "checksum", uint64(0)),
			layer("gre", "seq", uint64(2), "key", uint64(1), "checksum", true),
			layer("ethernet", "type", "lldp")},
			link + "0800" + "450000320001000040" + "2f00000a0000010a000002" +
				"b0006558" + "5dd40000" + "00000001" + "00000002" + link + "88cc"},
		"gre by hand": {over4, []spec.Layer{
			layer("ipv4", "checksum", uint64(0)), layer("gre", "flags", uint64(0x4001),
				"protocol", "ipv6")}, link + "0800" + "450000180001000040" +
			"2f00000a0000010a000002" + "400186dd"},
		"geneve alone": {over4, []spec.Layer{layer("ethernet"), layer("geneve", "options", "0102030405",
			"vni", uint64(7), "version", uint64(1)), layer("ipv6", "src", "fd00::1", "dst", "fd00::2")},
			link + "88b6" + "420086dd00000700" + "0102030405000000" + "6000000000003b40" +
				"fd000000000000000000000000000001" + "fd000000000000000000000000000002"},
		"data offset": {over4, []spec.Layer{layer("ipv4", "checksum", uint64(0)),
			layer("tcp", "data_offset", uint64(3), "checksum", uint64(0), "flags", uint64(0xff))},
			link + "0800" + "4500002800010000400600000a0000010a000002" +
				"045708ae000000000000000030ffffff00000000"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			frames := framesOf(t, testnet.Direct(), packetStep(c.over, c.layers...))
			require.Equal(t, c.want, hex.EncodeToString(frames[0].Data))
		})
	}
}

// TestCitedHeadersGoBack: behind an ICMP error the defaults are of the packet it is about.
func TestCitedHeadersGoBack(t *testing.T) {
	f := framesOf(t, testnet.Direct(), packetStep(over4, layer("icmp", "type", "unreachable"),
		layer("ipv4"), layer("udp")))
	require.Equal(t, "10.0.0.1 10.0.0.2", addresses(f[0].Data[26:]))
	require.Equal(t, "10.0.0.2 10.0.0.1", addresses(f[0].Data[14+20+8+12:]))
	require.Equal(t, "08ae0457", hex.EncodeToString(f[0].Data[14+20+8+20:][:4]))
}

func addresses(b []byte) string {
	return layers.NewIPEndpoint(b[:4]).String() + " " + layers.NewIPEndpoint(b[4:8]).String()
}

func TestCountNumbersThePackets(t *testing.T) {
	step := packetStep(over4, layer("udp"))
	step.Packet.Count = 3
	frames := framesOf(t, testnet.Direct(), step)
	require.Len(t, frames, 3)
	for i, f := range frames {
		requireSound(t, f.Data)
		require.EqualValues(t, i+1, decode(t, f.Data).Layer(layers.LayerTypeIPv4).(*layers.IPv4).Id)
	}
}

func TestMistakes(t *testing.T) {
	long := spec.Layer{Kind: "payload", Fields: map[string]any{"length": uint64(2000)}}
	cases := map[string]struct {
		step spec.Step
		want string
	}{
		"field": {packetStep(over4, layer("ipv4", "tll", uint64(1))),
			`line 4: unknown field "tll" of layer ipv4; did you mean "ttl"?`},
		"layer": {packetStep(over4, layer("icpm")),
			`line 4: unknown layer "icpm"; did you mean "icmp"?`},
		"far off": {packetStep(over4, layer("raw", "zzzzzz", "")),
			`line 4: unknown field "zzzzzz" of layer raw; known are hex, truncate`},
		"too big": {packetStep(over4, layer("ipv4", "ttl", uint64(256))),
			`line 4: field "ttl" of layer ipv4: 256 is more than 255, the largest number of 8 bits`},
		"no number": {packetStep(over4, layer("ipv4", "protocol", "tpc")),
			`line 4: field "protocol" of layer ipv4: "tpc" is not a number and ` +
				`not a known word; did you mean "tcp"?`},
		"negative": {packetStep(over4, layer("udp", "src", -1)),
			`line 4: field "src" of layer udp: -1 is negative`},
		"family": {packetStep(over4, layer("ipv6"), layer("udp")),
			`line 3: ipv6: the endpoints have no IPv6 addresses; give src and dst`},
		"tag": {packetStep(over4, layer("sctp"), layer("chunk", "tag", uint64(1))),
			`line 3: chunk: only init and init-ack have a tag`},
		"no layers": {packetStep(over4), `line 3: the packet has no layers`},
		"MTU": {packetStep(over4, layer("udp"), long),
			`line 3: a frame of 2042 bytes does not fit through client/eth0: ` +
				`with its MTU of 1500, 1514 bytes do`},
		"no header": {packetStep(over4, layer("ethernet", "truncate", uint64(13))),
			`line 3: a frame of 13 bytes is shorter than its Ethernet header, which no interface sends`},
		"no route": {packetStep([2]string{"10.0.0.1", "192.0.2.1"}, layer("udp")),
			`line 3: host client has no route to 192.0.2.1`},
		"nobody": {packetStep([2]string{"10.0.0.1", "10.0.0.9"}, layer("udp")),
			`line 3: nobody that client/eth0 can reach directly has the address 10.0.0.9`},
		"no tcp ack": {spec.Step{Line: 3, TCP: &spec.TCP{
			Script: []spec.Segment{{Line: 8, Ack: new(uint32)}}}},
			`line 8: ack= needs the flag ACK`},
		"about nothing": {spec.Step{Line: 3, UDP: &spec.UDP{
			Script: []spec.Datagram{{Line: 9, Unreachable: "port"}}}},
			`line 9: the other side has sent no datagram that the error could be about`},
		"protocol": {spec.Step{Line: 3, Burst: &spec.Burst{
			From: testnet.Endpoint("client", "10.0.0.1", 0),
			To:   testnet.Endpoint("server", "10.0.0.2", 0), Flows: 1, Protocol: "sctp"}},
			`line 3: unknown protocol "sctp"; did you mean "tcp"?`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := collect(NewBuilder(testnet.Direct()), c.step)
			require.EqualError(t, err, c.want)
			require.EqualError(t, NewBuilder(testnet.Direct()).Check(&c.step), c.want)
		})
	}
}

func TestExplicitLinkAddressNeedsNoNeighbour(t *testing.T) {
	f := framesOf(t, testnet.Direct(), packetStep([2]string{"10.0.0.1", "10.0.0.9"},
		layer("ethernet", "dst", "02:00:00:00:00:55"), layer("udp")))
	require.Equal(t, "020000000055", hex.EncodeToString(f[0].Data[:6]))
	f = framesOf(t, testnet.Direct(), packetStep([2]string{"10.0.0.1", "192.0.2.1"},
		layer("ethernet", "interface", "eth0"), layer("udp")))
	require.Equal(t, "020000000002", hex.EncodeToString(f[0].Data[:6]))
}

// TestSchemaIsKept: every field of every layer is read by the builder, not only known.
func TestSchemaIsKept(t *testing.T) {
	for kind, fields := range schema {
		for name := range fields {
			over := over4
			if kind == "ipv6" || kind == "ipv6ext" || kind == "icmpv6" {
				over = over6
			}
			if name == "interface" { // there is only one
				continue
			}
			plain := framesOf(t, testnet.Direct(), packetStep(over, variants(kind, "")...))
			other := framesOf(t, testnet.Direct(), packetStep(over, variants(kind, name)...))
			require.NotEqual(t, plain[0].Data, other[0].Data, "%s: %s", kind, name)
		}
	}
}

// variants is a packet with a layer of the kind, and with a field of it set when given.
func variants(kind, field string) []spec.Layer {
	l := layer(kind)
	if kind == "ipv6ext" && (field == "fragment_offset" || field == "more" || field == "id") {
		l.Fields["type"] = "fragment"
	}
	if kind == "chunk" && field != "type" { // the one that has a tag
		l.Fields["type"] = "init"
	}
	for _, x := range []any{uint64(3), true, "0a0b", "02:00:00:00:00:77", "192.0.2.7", "2001:db8::7"} {
		if field == "" {
			break
		}
		if _, err := schema[kind][field](x); err == nil {
			l.Fields[field] = x
			break
		}
	}
	return []spec.Layer{l}
}

func TestErrorsCanBeToldApart(t *testing.T) {
	e := &Engine{}
	err := e.Run(t.Context(), &spec.Step{Line: 5, Agent: "stop"})
	require.ErrorIs(t, err, ErrNotTraffic)
	var at *lineError
	require.True(t, errors.As(err, &at) && at.line == 5)
}
