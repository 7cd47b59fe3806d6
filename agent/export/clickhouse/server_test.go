package clickhouse

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/export/certs"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// real is a ClickHouse server as a process, with data of its own.
type real struct {
	t       testing.TB
	dir     string
	address string
	tls     string // address for TLS; "" without
	cmd     *exec.Cmd
}

const serverConfig = `<yandex>
<logger><level>information</level><console>1</console></logger>
<tcp_port>%s</tcp_port>%s
<listen_host>127.0.0.1</listen_host>
<path>%s/</path><tmp_path>%[3]s/tmp/</tmp_path>
<mark_cache_size>1048576</mark_cache_size>
<users_config>users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database>
</yandex>`

const serverTLS = `<tcp_port_secure>%s</tcp_port_secure>
<openSSL><server><certificateFile>%s</certificateFile><privateKeyFile>%s</privateKeyFile>
<caConfig>%s</caConfig><verificationMode>strict</verificationMode></server></openSSL>`

const users = `<yandex><profiles><default/></profiles><quotas><default/></quotas><users>
<default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default>
<weir><password>secret</password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></weir>
</users></yandex>`

// serve starts a server; files are its certificate, its key and an authority for TLS.
func serve(t testing.TB, files *certs.Options) *real {
	t.Helper()
	if _, err := exec.LookPath("clickhouse-server"); err != nil {
		kerneltest.Lacking(t, "clickhouse-server") // ci/install installs it
	}
	r := &real{t: t, dir: t.TempDir(), address: freeAddress(t)}
	secure := ""
	if files != nil {
		r.tls = freeAddress(t)
		secure = fmt.Sprintf(serverTLS, port(r.tls), files.Cert, files.Key, files.CA)
	}
	config := fmt.Sprintf(serverConfig, port(r.address), secure, r.dir)
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "config.xml"), []byte(config), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "users.xml"), []byte(users), 0o600))
	r.start()
	t.Cleanup(r.stop)
	return r
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// start starts the server, and waits until it answers.
func (r *real) start() {
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer log.Close()
	r.cmd = exec.Command("clickhouse-server", "--config-file="+filepath.Join(r.dir, "config.xml"))
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = r.dir, log, log
	require.NoError(r.t, r.cmd.Start())
	up := func() bool {
		for _, address := range []string{r.address, r.tls} {
			conn, err := net.Dial("tcp", address)
			if address != "" && (err != nil || conn.Close() != nil) {
				return false
			}
		}
		return true
	}
	if deadline := time.Now().Add(patience); !poll(deadline, up) {
		text, _ := os.ReadFile(filepath.Join(r.dir, "log"))
		require.Fail(r.t, "the server does not start", string(text))
	}
}

// poll waits for a condition.
func poll(deadline time.Time, ok func() bool) bool {
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

func (r *real) stop() { r.end(unix.SIGTERM) }

// end ends the server by a signal, and waits for that.
func (r *real) end(signal os.Signal) {
	if r.cmd == nil {
		return
	}
	require.NoError(r.t, r.cmd.Process.Signal(signal))
	_ = r.cmd.Wait() // how it ends is its own affair
	r.cmd = nil
}

// client is a connection for the test's own queries.
func (r *real) client() driver.Conn {
	r.t.Helper()
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{r.address}, DialTimeout: patience})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func (r *real) exec(query string) {
	r.t.Helper()
	require.NoError(r.t, r.client().Exec(context.Background(), query))
}

// number is what a query with one number gives.
func (r *real) number(query string) uint64 {
	r.t.Helper()
	var n uint64
	require.NoError(r.t, r.client().QueryRow(context.Background(), query).Scan(&n))
	return n
}
