package certs

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/export/certs/certstest"
)

// folder holds ca, cert and key.
type folder struct{ ca, cert, key string }

func newFolder(t testing.TB) folder {
	dir := t.TempDir()
	return folder{filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
}

func (f folder) options() Options { return Options{CA: f.ca, Cert: f.cert, Key: f.key} }

// handshake connects a client to a server and returns the serial numbers that each has seen.
func handshake(t testing.TB, client, server *tls.Config) (ofServer, ofClient *big.Int, err error) {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err == nil {
			c := tls.Server(raw, server)
			err = c.Handshake()
			if peers := c.ConnectionState().PeerCertificates; len(peers) > 0 {
				ofClient = peers[0].SerialNumber
			}
			if err == nil {
				_, _ = c.Write([]byte("x"))
			}
			raw.Close()
		}
		served <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer raw.Close()
	if client.ServerName == "" {
		client = client.Clone()
		client.ServerName = "localhost"
	}
	c := tls.Client(raw, client)
	if _, err = c.Read(make([]byte, 1)); err == nil { // TLS 1.3 servers refuse after the handshake
		ofServer = c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	serr := <-served
	if err == nil {
		err = serr
	}
	return ofServer, ofClient, err
}

func configs(t testing.TB, client, server *Files) (c, s *tls.Config) {
	t.Helper()
	c, err := client.Client()
	require.NoError(t, err)
	s, err = server.Server()
	require.NoError(t, err)
	return c, s
}

func read(t testing.TB, o Options) *Files {
	t.Helper()
	f, err := Read(&o)
	require.NoError(t, err)
	return f
}

// TestRenewal renews both sides' certificates, and the authority, while configurations are in use.
func TestRenewal(t *testing.T) {
	authority := certstest.New(t)
	c, s := newFolder(t), newFolder(t)
	issue := func() (client, server *big.Int) {
		authority.Write(t, c.ca)
		authority.Write(t, s.ca)
		return authority.Issue(t, c.cert, c.key), authority.Issue(t, s.cert, s.key)
	}
	wantClient, wantServer := issue()
	clientFiles, serverFiles := read(t, c.options()), read(t, s.options())
	_, server := configs(t, clientFiles, serverFiles)
	for range 3 {
		client, _ := configs(t, clientFiles, serverFiles)
		gotServer, gotClient, err := handshake(t, client, server)
		require.NoError(t, err)
		require.Equal(t, wantServer, gotServer)
		require.Equal(t, wantClient, gotClient)
		authority = certstest.New(t)
		wantClient, wantServer = issue()
	}
}

// TestHalfRenewed replaces a certificate but not yet its key: the old pair is used until then.
func TestHalfRenewed(t *testing.T) {
	authority, f := certstest.New(t), newFolder(t)
	authority.Write(t, f.ca)
	old := authority.Issue(t, f.cert, f.key)
	files := read(t, f.options())
	renewed := newFolder(t)
	next := authority.Issue(t, renewed.cert, renewed.key)
	require.NoError(t, os.Rename(renewed.cert, f.cert))
	serial := func() *big.Int {
		c, err := files.Client()
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
		require.NoError(t, err)
		return leaf.SerialNumber
	}
	require.Equal(t, old, serial())
	require.NoError(t, os.Rename(renewed.key, f.key))
	require.Equal(t, next, serial())
}

func TestMutual(t *testing.T) {
	ours, theirs := certstest.New(t), certstest.New(t)
	s, stranger := newFolder(t), newFolder(t)
	ours.Write(t, s.ca)
	ours.Issue(t, s.cert, s.key)
	theirs.Issue(t, stranger.cert, stranger.key)
	server := read(t, s.options())
	for name, o := range map[string]Options{
		"client without a certificate":       {CA: s.ca},
		"client of another authority":        {CA: s.ca, Cert: stranger.cert, Key: stranger.key},
		"server of an authority not trusted": {},
		"server of another name":             {CA: s.ca, Cert: s.cert, Key: s.key, ServerName: "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			c, srv := configs(t, read(t, o), server)
			_, _, err := handshake(t, c, srv)
			require.Error(t, err)
		})
	}
	open := s.options()
	open.CA = ""
	c, srv := configs(t, read(t, Options{CA: s.ca}), read(t, open))
	_, _, err := handshake(t, c, srv)
	require.NoError(t, err, "without a CA, clients need no certificate")
}

func TestReadRefuses(t *testing.T) {
	authority, f := certstest.New(t), newFolder(t)
	authority.Issue(t, f.cert, f.key)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for want, o := range map[string]Options{
		"cert and key: one without the other": {Cert: f.cert},
		"ca: open " + f.ca:                    {CA: f.ca},
		"ca: " + empty + " holds no cert":     {CA: empty},
		"cert, key: ":                         {Cert: f.cert, Key: empty},
	} {
		_, err := Read(&o)
		require.ErrorContains(t, err, want)
	}
	_, err := read(t, Options{}).Server()
	require.EqualError(t, err, "tls: cert, key: a server needs them")
	none, err := Read(nil)
	require.NoError(t, err)
	require.Nil(t, none)
}
