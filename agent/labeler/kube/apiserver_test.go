package kube_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	token    = "weir-test"
	patience = 2 * time.Minute // for whatever must happen in the end
)

// api is a real API server with its store, and a wire to it that can be cut.
type api struct {
	*wire
	server *exec.Cmd
	start  func() *exec.Cmd
	url    string
	client *http.Client
	config string // path of a kubeconfig that goes over the wire
}

// startAPI starts etcd and kube-apiserver from a folder.
func startAPI(t *testing.T, binaries string) *api {
	t.Helper()
	dir := t.TempDir()
	store, peer, port := freePort(t), freePort(t), freePort(t)
	run(t, filepath.Join(binaries, "etcd"), "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", "http://"+store, "--advertise-client-urls", "http://"+store,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--initial-cluster", "default=http://"+peer)
	tokens, key := filepath.Join(dir, "tokens.csv"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(tokens, []byte(token+",test,test,system:masters\n"), 0o600))
	require.NoError(t, os.WriteFile(key, newKey(t), 0o600))
	_, number, err := net.SplitHostPort(port)
	require.NoError(t, err)
	a := &api{url: "https://" + port, wire: newWire(t, port), config: filepath.Join(dir, "config")}
	a.start = func() *exec.Cmd {
		return run(t, filepath.Join(binaries, "kube-apiserver"), "--etcd-servers", "http://"+store,
			"--bind-address", "127.0.0.1", "--secure-port", number, "--cert-dir", filepath.Join(dir, "certs"),
			"--token-auth-file", tokens, "--authorization-mode", "AlwaysAllow",
			"--disable-admission-plugins", "ServiceAccount", "--service-account-issuer", "https://test.invalid",
			"--service-account-signing-key-file", key, "--service-account-key-file", key,
			"--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none")
	}
	// The certificate is the server's own, made when it starts for the first time.
	a.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	require.NoError(t, os.WriteFile(a.config, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a,
		clusters: [{name: a, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}],
		users: [{name: a, user: {token: %s}}], contexts: [{name: a, context: {cluster: a, user: a}}]}`,
		a.wire.listener.Addr(), token), 0o600))
	a.server = a.start()
	a.ready(t)
	return a
}

// restart ends the API server at once, and starts it again.
func (a *api) restart(t *testing.T) {
	t.Helper()
	require.NoError(t, a.server.Process.Kill())
	_ = a.server.Wait() // it was killed
	a.server = a.start()
	a.ready(t)
}

func (a *api) ready(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return a.do(http.MethodGet, "/readyz", nil) == nil }, patience,
		50*time.Millisecond, "the API server is ready")
}

// do asks the API server, past the wire.
func (a *api) do(method, path string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(context.Background(), method, a.url+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	answer, err := a.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	}
	return err
}

// run starts a program that ends with the test. What it says is shown when the test fails.
func run(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(name))
	require.NoError(t, err)
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill() // unless it has ended
		_ = c.Wait()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s: %s", name, text[max(0, len(text)-4000):])
		}
	})
	return c
}

// freePort is an address on which nobody listens at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func newKey(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// wire passes connections on to a server until they are cut.
type wire struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	down     bool
	open     map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{listener: l, to: to, open: map[net.Conn]bool{}}
	go w.accept()
	t.Cleanup(func() {
		l.Close()
		w.set(true)
	})
	return w
}

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil {
			near.Close()
			continue
		}
		if w.hold(near, far) {
			go w.pass(near, far)
			go w.pass(far, near)
		}
	}
}

// hold notes a connection, unless the wire is cut.
func (w *wire) hold(ends ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range ends {
		if w.down {
			c.Close()
			continue
		}
		w.open[c] = true
	}
	return !w.down
}

func (w *wire) pass(from, to net.Conn) {
	_, _ = io.Copy(to, from) // it ends when either is closed
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range []net.Conn{from, to} {
		c.Close()
		delete(w.open, c)
	}
}

// set cuts all connections, and takes none, or takes them again.
func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for c := range w.open {
		c.Close()
	}
}
