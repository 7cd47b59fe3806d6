package grpc

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/weirnet/weir/agent/export/certs"
)

// reloading are TLS credentials that look at the files with each connection.
type reloading struct{ files *certs.Files }

func (r *reloading) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn,
	credentials.AuthInfo, error) {
	config, err := r.files.Client()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, c)
}

func (r *reloading) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are a client's credentials")
}

func (r *reloading) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (r *reloading) Clone() credentials.TransportCredentials { return r }

func (r *reloading) OverrideServerName(string) error { return nil }
