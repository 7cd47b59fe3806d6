// Package certs reads TLS certificates from files, and reads them again when they have changed: a
// certificate that is renewed is used from the next connection on, without a restart.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
)

// Options name files in PEM form.
type Options struct {
	// CA holds the authorities that the other side's certificate is checked against. Empty: those
	// of the system for a server's certificate; clients need none.
	CA string `yaml:"ca"`
	// Cert and Key are our own; for a client, needed where the server asks for them.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// ServerName is the name in the server's certificate; empty: that of the address.
	ServerName string `yaml:"server_name"`
}

// Check tells what is wrong with the options; it does not look at the files.
func (o *Options) Check() error {
	if (o.Cert == "") != (o.Key == "") {
		return errors.New("cert and key: one without the other")
	}
	return nil
}

// Files are certificates in files. They are safe for concurrent use.
type Files struct {
	opts Options
	mu   sync.Mutex
	seen version // of the files that were read last
	cert *tls.Certificate
	pool *x509.CertPool
}

// Read reads the files for the first time. Without options, as where a sink's configuration has no key
// tls, there are none: it returns nil. Errors begin with that key.
func Read(opts *Options) (*Files, error) {
	if opts == nil {
		return nil, nil
	}
	f := &Files{opts: *opts}
	err := opts.Check()
	if err == nil {
		_, _, err = f.fresh()
	}
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return f, nil
}

// fresh gives the certificates, from the files when they have changed. When these cannot be read as a
// whole, as while they are replaced, it gives what it has, until they can; there must be some.
func (f *Files) fresh() (*tls.Certificate, *x509.CertPool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.opts.version()
	if f.seen != nil && f.seen.same(seen) {
		return f.cert, f.pool, nil
	}
	cert, pool, err := f.opts.load()
	if err == nil {
		f.cert, f.pool, f.seen = cert, pool, seen
	} else if f.seen != nil {
		err = nil
	}
	return f.cert, f.pool, err
}

// version tells files from those that take their place; nil for one that is not there.
type version []os.FileInfo

func (o *Options) version() version {
	v := make(version, 0, 3)
	for _, path := range []string{o.CA, o.Cert, o.Key} {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		v = append(v, info)
	}
	return v
}

func (v version) same(w version) bool {
	return slices.EqualFunc(v, w, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == b
		}
		return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
	})
}

func (o *Options) load() (cert *tls.Certificate, pool *x509.CertPool, err error) {
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, nil, fmt.Errorf("ca: %w", err)
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("ca: %s holds no certificate in PEM form", o.CA)
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("cert, key: %w", err)
		}
		cert = &pair
	}
	return cert, pool, nil
}

// Client is the configuration for one connection to a server.
func (f *Files) Client() (*tls.Config, error) {
	cert, pool, err := f.fresh()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: pool, ServerName: f.opts.ServerName, MinVersion: tls.VersionTLS12}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return c, nil
}

// Server is the configuration for a server: with a CA, clients need a certificate.
func (f *Files) Server(protocols ...string) (*tls.Config, error) {
	one := func() (*tls.Config, error) {
		cert, pool, err := f.fresh()
		if err != nil {
			return nil, err
		}
		if cert == nil {
			return nil, errors.New("cert, key: a server needs them")
		}
		c := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12,
			NextProtos: protocols}
		if pool != nil {
			c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
		}
		return c, nil
	}
	c, err := one()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return one() }
	return c, nil
}

// Dial connects to a server by TLS, with the certificates that are in the files at the time.
func (f *Files) Dial(ctx context.Context, d *net.Dialer, address string) (net.Conn, error) {
	config, err := f.Client()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	secure := tls.Dialer{NetDialer: d, Config: config}
	return secure.DialContext(ctx, "tcp", address)
}
