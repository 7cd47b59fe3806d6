package kube

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/labeler"
)

const patience = 2 * time.Minute // for whatever must happen in the end

// TestResident holds the bar of 1 MB of RSS for 1000 pods, by what a process grows with each.
func TestResident(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short, which goes with -race: a process has several times the memory then")
	}
	const few, many = 1000, 21000
	s := newServer(t)
	s.stream = true
	config := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: a,
		clusters: [{name: a, cluster: {server: %q}}], contexts: [{name: a, context: {cluster: a}}]}`, s.URL), 0o600))
	filler := strings.Repeat("x", 1000)
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			s.put("pods", podJSON(fmt.Sprintf("web-5d4f8c7b9-%05d", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255),
				`,"message":"`+filler+`"`))
		}
	}
	fill(0, few)
	before := Resident(t, config)
	fill(few, many)
	after := Resident(t, config)
	grown := (after - before) * 1000 / (many - few)
	t.Logf("RSS: %d kB with %d pods, %d kB with %d: %d kB for 1000", before, few, after, many, grown)
	require.LessOrEqual(t, grown, 1024, "kB of RSS for 1000 pods")
}

// residentEnv makes the test's program print how much memory a source takes that it runs alone.
const residentEnv = "WEIR_TEST_RESIDENT"

func TestMain(m *testing.M) {
	config := os.Getenv(residentEnv)
	if config == "" {
		os.Exit(m.Run())
	}
	kB, err := measure(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(kB)
}

func measure(config string) (kB int, err error) {
	c := labeler.NewCluster(labeler.ClusterOptions{})
	s, err := New(c, Options{Kubeconfig: config, Keys: DefaultKeys()})
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for !c.Synced() {
		select {
		case err := <-done:
			return 0, fmt.Errorf("read the cluster: %w", cmp.Or(err, ctx.Err()))
		case <-time.After(10 * time.Millisecond):
		}
	}
	kB = math.MaxInt
	for range 20 { // what is being read at the moment of one look is not what it takes to know the pods
		time.Sleep(20 * time.Millisecond)
		debug.FreeOSMemory()
		now, err := rss()
		if err != nil {
			return 0, err
		}
		kB = min(kB, now)
	}
	return kB, nil
}

func rss() (kB int, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, text, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(text, &kB)
	return kB, err
}

// Resident is the memory of a process that only runs a source, in kB.
func Resident(t *testing.T, config string) int {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), residentEnv+"="+config)
	c.Stderr = os.Stderr
	out, err := c.Output()
	require.NoError(t, err)
	kB, err := strconv.Atoi(string(out))
	require.NoError(t, err)
	return kB
}
