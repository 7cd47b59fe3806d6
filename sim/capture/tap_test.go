package capture

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// TestLossIsAnError fills a socket that nobody empties: Drain must not pass over it.
func TestLossIsAnError(t *testing.T) {
	topology := testnet.Direct()
	net := testnet.Build(t, topology)
	e, err := traffic.New(&spec.Scenario{Topology: *topology}, net)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	c, err := Open(net, topology, []spec.Port{testnet.Port("server", "eth0")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.taps[0].conn.Control(func(fd uintptr) {
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	}))

	c.taps[0].mu.Lock() // holds the reader up
	err = e.Run(t.Context(), &spec.Step{Line: 1, UDP: &spec.UDP{
		Client: testnet.Endpoint("client", "10.0.0.1", 1),
		Server: testnet.Endpoint("server", "10.0.0.2", 2),
		Script: []spec.Datagram{{Payload: 100, Repeat: 50}}}})
	c.taps[0].mu.Unlock()
	require.NoError(t, err)
	_, err = c.Drain()
	require.ErrorContains(t, err, "packets found the socket's buffer full")
}

func TestOpenNeedsItsPorts(t *testing.T) {
	topology := testnet.Direct()
	net := testnet.Build(t, topology)
	_, err := Open(net, topology, []spec.Port{testnet.Port("server", "eth7")})
	require.ErrorContains(t, err, "find interface eth7")
	_, err = Open(net, topology, []spec.Port{testnet.Port("nobody", "eth0")})
	require.ErrorContains(t, err, `there is no host "nobody"`)
}

// TestMessages feeds what the kernel would hand over.
func TestMessages(t *testing.T) {
	port := testnet.Port("server", "eth0")
	newTap := func() *tap { return &tap{ports: map[int]spec.Port{3: port}} }
	data := []byte("ddddddssssss\x08\x00rest")

	tp := newTap()
	tp.take(message{data: data, index: 4})
	tp.take(message{data: data, index: 3, outgoing: true})
	tp.take(message{data: data, index: 3, tagged: true, tpid: 0x88a8, tci: 0x2007})
	require.Equal(t, []event{
		{port: port, egress: true, frame: data},
		{port: port, frame: []byte("ddddddssssss\x88\xa8\x20\x07\x08\x00rest")},
	}, tp.events)
	tp.take(message{data: data, index: 3, cut: true})
	require.ErrorContains(t, tp.err, "segmentation offload is on")
}

func TestAuxiliaryData(t *testing.T) {
	control := func(status uint32, tci, tpid uint16) []byte {
		b := make([]byte, unix.CmsgSpace(20))
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(20)))
		binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-8:], unix.SOL_PACKET)
		binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-4:], unix.PACKET_AUXDATA)
		d := b[unix.SizeofCmsghdr:]
		binary.NativeEndian.PutUint32(d, status)
		binary.NativeEndian.PutUint16(d[16:], tci)
		binary.NativeEndian.PutUint16(d[18:], tpid)
		return b
	}
	cases := map[string]struct {
		control []byte
		want    message
	}{
		"no tag": {control(0, 9, 9), message{tci: 9, tpid: 0x8100}},
		"tag 0":  {control(vlanValid|tpidValid, 0, 0x8100), message{tagged: true, tpid: 0x8100}},
		"service tag": {control(vlanValid|tpidValid, 7, 0x88a8), message{tagged: true, tci: 7,
			tpid: 0x88a8}},
		"without a type": {control(vlanValid, 7, 0), message{tagged: true, tci: 7, tpid: 0x8100}},
		"nothing":        {nil, message{}},
		"cut off":        {control(vlanValid, 7, 0)[:20], message{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var m message
			m.readTag(c.control)
			require.Equal(t, c.want, m)
		})
	}
}
