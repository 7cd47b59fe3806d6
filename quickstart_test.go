package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

const quickStart = "docs/quickstart-agent.md"

// TestQuickStart runs the commands of the page as its reader does, in a network that has nothing but the
// reader's connection, and with folders of its own in place of those that the page names.
func TestQuickStart(t *testing.T) {
	page := docs(t)[quickStart]
	r := newReader(t)
	var agent *process
	for _, line := range code(page) {
		words := shellWords(line)
		if len(words) > 0 && words[0] == "sudo" {
			words = words[1:]
		}
		if len(words) == 0 || words[0] != "out/weir" {
			continue
		}
		if strings.Contains(line, "weir.yaml") {
			r.write(page)
		}
		switch command := strings.Join(words[1:], " "); command {
		case "agent eth0", "agent --config weir.yaml":
			if agent != nil {
				r.reported(agent)
			}
			agent = r.start(words[1:])
			r.eventually("the agent to be ready", func() bool { return r.enter(agent, "status").Run() == nil })
		case "flows":
			seen := r.background(agent, words[1:])
			r.eventually("the talker", func() bool { r.talk(); return strings.Contains(seen.String(), r.server) })
			seen.end(t)
		case "ct list", "status":
			r.talk()
			out, err := r.enter(agent, words[1:]...).CombinedOutput()
			require.NoError(t, err, "%s: %s", command, out)
			require.Contains(t, string(out), map[string]string{"ct list": r.server, "status": "healthy"}[command])
		case "doctor", "agent config --check --config weir.yaml":
			out, err := r.command(words[1:]).CombinedOutput()
			require.NoError(t, err, "%s: %s", command, out)
		default:
			require.FailNow(t, "no test runs this command", line)
		}
	}
	r.talk()
	agent.end(t)
}

// reader is who follows the page: with a host of one interface, eth0, and another host at its other end.
type reader struct {
	t      *testing.T
	net    *testnet.Net
	folder string
	server string // address and port
}

func newReader(t *testing.T) *reader {
	s, err := spec.Parse("network.yaml", []byte(`summary: a host with one interface
topology:
  host: {stack: kernel, eth0: [10.0.0.1/24]}
  peer: {stack: kernel, eth0: [10.0.0.2/24]}
  links: [host/eth0 - peer/eth0]
agent: {on: [host/eth0]}
traffic: [advance: 1s]
`))
	require.NoError(t, err)
	r := &reader{t: t, net: testnet.Build(t, &s.Topology), folder: t.TempDir()}
	require.NoError(t, r.net.Do("peer", func() error {
		l, err := net.Listen("tcp", "10.0.0.2:0")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		r.server = l.Addr().String()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
		return nil
	}))
	return r
}

// write puts the page's configuration into the reader's folder.
func (r *reader) write(page string) {
	for _, b := range fence.FindAllStringSubmatch(page, -1) {
		if name, text, ok := strings.Cut(b[3], "\n"); b[1] == "yaml" && ok {
			name = strings.TrimPrefix(name, "# ")
			require.NoError(r.t, os.WriteFile(r.folder+"/"+name, []byte(text), 0o600))
		}
	}
}

// talk opens a connection from the watched host, is answered, and closes it.
func (r *reader) talk() {
	require.NoError(r.t, r.net.Do("host", func() error {
		c, err := net.Dial("tcp", r.server)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 5))
		return err
	}))
}

func (r *reader) eventually(what string, holds func() bool) {
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		require.True(r.t, time.Now().Before(end), "waited in vain for %s", what)
	}
}

// command is weir, to be started on the host. The folders that the page writes to are new and empty.
func (r *reader) command(args []string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(r.t, err)
	fresh := `mount -t tmpfs none /run && mount -t tmpfs none /var/log && exec "$0" "$@"`
	c := exec.CommandContext(r.t.Context(), "sh", append([]string{"-c", fresh, self}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	c.Dir = r.folder
	return c
}

// enter is weir beside an agent that runs: in another terminal of the same host.
func (r *reader) enter(agent *process, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(r.t, err)
	target := "--target=" + strconv.Itoa(agent.cmd.Process.Pid)
	return exec.CommandContext(r.t.Context(), "nsenter", append([]string{target, "--mount", "--net", self}, args...)...)
}

func (r *reader) start(args []string) *process {
	p := &process{cmd: r.command(args)}
	p.run(r.t, func() error { return r.net.Do("host", p.cmd.Start) })
	return p
}

func (r *reader) background(agent *process, args []string) *process {
	p := &process{cmd: r.enter(agent, args...)}
	p.run(r.t, p.cmd.Start)
	return p
}

// reported ends an agent that prints, and checks that it has told of the reader's connections.
func (r *reader) reported(agent *process) {
	agent.end(r.t)
	host, port, err := net.SplitHostPort(r.server)
	require.NoError(r.t, err)
	there, back := 0, 0
	for scan := bufio.NewScanner(strings.NewReader(agent.String())); scan.Scan(); {
		var f flow.Record
		require.NoError(r.t, json.Unmarshal(scan.Bytes(), &f), scan.Text())
		if f.Dst.String() == host && strconv.Itoa(int(f.DstPort)) == port {
			there++
		}
		if f.Src.String() == host && strconv.Itoa(int(f.SrcPort)) == port {
			back++
		}
	}
	require.Positive(r.t, there, "records to %s in %s\n%s", r.server, agent, &agent.log)
	require.Equal(r.t, there, back, "records of the two directions")
}

// process is a command that runs until it is interrupted, and what it has printed.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) run(t *testing.T, start func() error) {
	p.cmd.Stdout, p.cmd.Stderr = p, &p.log
	require.NoError(t, start())
}

// end interrupts it, as Ctrl-C does.
func (p *process) end(t *testing.T) {
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, p.cmd.Wait(), "%s%s", p.String(), &p.log)
}
