package trace

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkDrop is what it takes the kernel to drop a packet, sending included.
func BenchmarkDrop(b *testing.B) {
	onAndOff(b, Options{Drops: true}, func(b *testing.B) {
		c, err := net.Dial("udp", "127.0.0.1:9")
		require.NoError(b, err)
		defer c.Close()
		for b.Loop() {
			_, _ = c.Write([]byte("hello")) // every other one is told that nobody listens
		}
	})
}

// BenchmarkRoundTrip is what it takes two sockets to exchange a line: two packets with data, of
// which each socket receives one.
func BenchmarkRoundTrip(b *testing.B) {
	onAndOff(b, Options{RTT: true}, func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:8080")
		require.NoError(b, err)
		defer l.Close()
		c, err := net.Dial("tcp", "127.0.0.1:8080")
		require.NoError(b, err)
		defer c.Close()
		s, err := l.Accept()
		require.NoError(b, err)
		defer s.Close()
		line := make([]byte, 6)
		for b.Loop() {
			_, err := c.Write([]byte("hello\n"))
			require.NoError(b, err)
			_, err = io.ReadFull(s, line)
			require.NoError(b, err)
			_, err = s.Write(line)
			require.NoError(b, err)
			_, err = io.ReadFull(c, line)
			require.NoError(b, err)
		}
	})
}

func onAndOff(b *testing.B, on Options, fn func(*testing.B)) {
	needRoot(b)
	alone := func(b *testing.B) {
		inNamespace(b) // here: each has a thread of its own
		fn(b)
	}
	b.Run("off", alone)
	open(b, on)
	b.Run("on", alone)
}
