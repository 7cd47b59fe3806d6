package ipfix

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export"
	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/agent/export/certs/certstest"
	"github.com/weirnet/weir/agent/export/sinktest"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/collector"
)

// stream is a collector over tcp.
type stream struct {
	net.Listener
	mu      sync.Mutex
	conns   []net.Conn
	records []collector.Record
	err     error
	all     sync.WaitGroup
}

func listenTCP(t testing.TB, secure *tls.Config) *stream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	s := &stream{Listener: l}
	s.all.Go(func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.all.Go(func() { s.read(c) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		s.hangUp()
		s.all.Wait()
		require.NoError(t, s.err)
	})
	return s
}

// read reads a connection's messages.
func (s *stream) read(c net.Conn) {
	d := collector.NewDecoder()
	for {
		m := make([]byte, maxMessage)
		if _, err := io.ReadFull(c, m[:messageHeader]); err != nil {
			return
		}
		m = m[:binary.BigEndian.Uint16(m[2:])]
		if _, err := io.ReadFull(c, m[messageHeader:]); err != nil {
			return
		}
		records, err := d.Decode(m)
		s.mu.Lock()
		s.records = append(s.records, records...)
		if err != nil {
			s.err = err
		}
		s.mu.Unlock()
	}
}

// hangUp closes all connections.
func (s *stream) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close() // may be closed
	}
	s.conns = nil
}

// wait waits for the flows of so many records, and returns all that have come.
func (s *stream) wait(t testing.TB, n int) (flows []uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.records) >= n
	}, patience, time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		flows = append(flows, r["flowId"].(uint64))
	}
	return flows
}

// TestTCP hangs up between sends: the next one connects anew, with templates.
func TestTCP(t *testing.T) {
	c := listenTCP(t, nil)
	s := sinktest.Open(t, Open, Options{Address: c.Addr().String(), Transport: "tcp"})
	s.send(t, record(1))
	s.send(t, record(2))
	require.Equal(t, []uint64{1, 2}, c.wait(t, 2))
	old := s.conn
	c.hangUp()
	<-old.gone
	s.send(t, record(3))
	require.Equal(t, []uint64{1, 2, 3}, c.wait(t, 3))
}

// TestTCPNotRead has a collector that does not read. What is not with its host was not sent.
func TestTCPNotRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s := sinktest.Open(t, Open, Options{Address: l.Addr().String(), Transport: "tcp"})
	var many []flow.Record
	for n := range uint64(100_000) { // more than sockets hold
		many = append(many, record(n))
	}
	payload := s.encode(many...)
	s.send(t, record(1)) // connects
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err = s.Send(ctx, payload, len(many))
	require.ErrorContains(t, err, "send to "+l.Addr().String())
	require.NotErrorIs(t, err, export.ErrRejected)
	require.Nil(t, s.conn, "the next attempt begins anew")
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ca := certstest.New(t)
	ca.Write(t, path("ca.pem"))
	ca.Issue(t, path("server.pem"), path("server.key"))
	ca.Issue(t, path("client.pem"), path("client.key"))
	files, err := certs.Read(&certs.Options{CA: path("ca.pem"), Cert: path("server.pem"), Key: path("server.key")})
	require.NoError(t, err)
	config, err := files.Server()
	require.NoError(t, err)
	c := listenTCP(t, config)
	options := Options{Address: c.Addr().String(), Transport: "tcp", TLS: &certs.Options{
		CA: path("ca.pem"), Cert: path("client.pem"), Key: path("client.key")}}
	s := sinktest.Open(t, Open, options)
	s.send(t, record(1))
	require.Equal(t, []uint64{1}, c.wait(t, 1))

	options.TLS = &certs.Options{}
	require.ErrorContains(t, sinktest.Open(t, Open, options).try(record(2)), "certificate")
	options.TLS = &certs.Options{CA: path("none.pem")}
	_, err = Open(options)
	require.ErrorContains(t, err, "tls: ca: ")
}
