package nat

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded reads a message as a kernel sent it, without its netlink header. TestListen records them.
func recorded(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	require.NoError(t, err)
	return b
}

func tuple(protocol uint8, src, dst string) Tuple {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return Tuple{Src: s.Addr(), Dst: d.Addr(), SrcPort: s.Port(), DstPort: d.Port(), Protocol: protocol}
}

func echo(protocol, kind uint8, id uint16, src, dst string) Tuple {
	return Tuple{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Protocol: protocol,
		ICMPType: kind, ICMPID: id}
}

// samples are the connections that TestListen puts into the kernel, by the name of their recordings.
var samples = map[string][2]Tuple{
	"tcp-snat": {tuple(6, "10.0.0.1:40000", "198.51.100.2:80"), tuple(6, "192.0.2.9:1024", "198.51.100.2:80")},
	"tcp-dnat": {tuple(6, "10.0.0.1:40001", "192.0.2.1:8080"), tuple(6, "10.0.0.1:40001", "10.0.9.2:80")},
	"udp-both": {tuple(17, "[2001:db8::1]:5000", "[2001:db8::2]:53"),
		tuple(17, "[2001:db8:1::9]:6000", "[2001:db8:2::3]:5353")},
	"udp-plain": {tuple(17, "10.0.0.1:5000", "10.0.0.2:53"), tuple(17, "10.0.0.1:5000", "10.0.0.2:53")},
	"sctp-snat": {tuple(132, "10.0.0.1:7", "10.0.0.2:8"), tuple(132, "10.0.0.3:7", "10.0.0.2:8")},
	"icmp-snat": {echo(1, 8, 7, "10.0.0.1", "10.0.0.2"), echo(1, 8, 9, "10.0.0.3", "10.0.0.2")},
	"icmpv6-snat": {echo(58, 128, 7, "2001:db8::1", "2001:db8::2"),
		echo(58, 128, 7, "2001:db8::3", "2001:db8::2")},
}

func TestDecodeRecorded(t *testing.T) {
	for name, want := range samples {
		for _, kind := range []string{"new", "destroy", "dump"} {
			got, err := decode(recorded(t, filepath.Join("testdata", name+"."+kind+".hex")))
			require.NoError(t, err, "%s.%s", name, kind)
			require.Equal(t, want, got.tuple, "%s.%s", name, kind)
			require.Equal(t, want[Before] != want[After], got.translated())
			require.NotZero(t, got.id, "%s.%s", name, kind)
			require.Zero(t, got.zone)
		}
	}
}

// attribute makes a netlink attribute of parts.
func attribute(kind uint16, parts ...[]byte) []byte {
	var value []byte
	for _, p := range parts {
		value = append(value, p...)
	}
	size := 4 + len(value)
	b := append([]byte{byte(size), byte(size >> 8), byte(kind), byte(kind >> 8)}, value...)
	return append(b, make([]byte, (4-size%4)%4)...)
}

const nested = 1 << 15 // NLA_F_NESTED

func TestDecodeMalformed(t *testing.T) {
	header := make([]byte, headerSize)
	v4 := func(a, b []byte) []byte {
		return attribute(ctaTupleIP|nested, attribute(ctaIPv4Src, a), attribute(ctaIPv4Dst, b))
	}
	a, b := []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	udp := attribute(ctaTupleProto|nested, attribute(ctaProtoNumber, []byte{17}),
		attribute(ctaProtoSrcPort, []byte{0, 1}), attribute(ctaProtoDstPort, []byte{0, 2}))
	tcp := attribute(ctaTupleProto|nested, attribute(ctaProtoNumber, []byte{6}))
	good := attribute(ctaTupleOriginal|nested, v4(a, b), udp)
	reply := attribute(ctaTupleReply|nested, v4(b, a), udp)
	v6 := attribute(ctaTupleIP|nested, attribute(ctaIPv6Src, make([]byte, 16)),
		attribute(ctaIPv6Dst, make([]byte, 16)))
	join := func(parts ...[]byte) []byte { return attribute(0, parts...)[4:] }

	_, err := decode(join(header, good, reply))
	require.NoError(t, err, "what the cases are made of")
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"empty":            {nil, "cut off"},
		"header":           {header[:3], "cut off"},
		"no tuples":        {header, "lacks a tuple"},
		"no reply":         {join(header, good), "lacks a tuple"},
		"no addresses":     {join(header, attribute(ctaTupleOriginal, udp)), "not two addresses"},
		"one address":      {join(header, attribute(ctaTupleOriginal, attribute(ctaTupleIP, attribute(ctaIPv4Src, a)))), "not two addresses"},
		"long address":     {join(header, attribute(ctaTupleOriginal, v4(append(a, 5), b))), "has 5 bytes"},
		"two families":     {join(header, good, attribute(ctaTupleReply, v6, udp)), "do not fit"},
		"two protocols":    {join(header, good, attribute(ctaTupleReply, v4(b, a), tcp)), "do not fit"},
		"short port":       {join(header, attribute(ctaTupleOriginal, attribute(ctaTupleProto, attribute(ctaProtoSrcPort, []byte{1})))), "of 2 bytes has 1"},
		"attribute's size": {join(header, []byte{3, 0, 1, 0}), "cut off"},
		"beyond the end":   {join(header, []byte{9, 0, 1, 0, 0, 0, 0, 0}), "cut off"},
		"a byte too much":  {append(join(header, good, reply), 1), "cut off"},
		"short zone":       {join(header, good, reply, attribute(ctaZone, []byte{1})), "of 2 bytes has 1"},
	} {
		_, err := decode(c.message)
		require.ErrorContains(t, err, c.want, name)
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.hex")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		f.Add(recorded(f, file))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		c, err := decode(message)
		if err != nil {
			return
		}
		for _, tuple := range c.tuple {
			if tuple.Src.BitLen() == 0 || tuple.Src.BitLen() != tuple.Dst.BitLen() {
				t.Errorf("addresses %v and %v", tuple.Src, tuple.Dst)
			}
			if !hasPorts(tuple.Protocol) && (tuple.SrcPort != 0 || tuple.DstPort != 0) {
				t.Errorf("protocol %d has ports", tuple.Protocol)
			}
		}
		table := NewTable(1)
		table.add("", 1, &c)
		table.remove("", &c)
		table.Sweep(func(string, Tuple) bool { return false })
		table.Sweep(func(string, Tuple) bool { return false })
		if !table.Empty() {
			t.Error("what was removed is still there")
		}
	})
}
