package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	strict "sigs.k8s.io/yaml"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/privileges"
	"github.com/weirnet/weir/bpf/kerneltest"
)

// The files in packaging: as the tools see them that read them, and against the program.

// capabilities are those that the agent makes use of, like "BPF".
func capabilities() []string {
	var all []string
	for _, n := range privileges.Needs() {
		all = append(all, strings.ToUpper(strings.TrimPrefix(n.Cap.String(), "cap_")))
	}
	slices.Sort(all)
	return all
}

// TestSystemdUnit has systemd read the unit, with a binary that exists.
func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile("packaging/systemd/weir.service")
	require.NoError(t, err)
	set := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(text)
	require.NotNil(t, set)
	got := strings.Fields(strings.ReplaceAll(string(set[1]), "CAP_", ""))
	slices.Sort(got)
	require.Equal(t, capabilities(), got)

	config, err := os.ReadFile("packaging/systemd/weir.yaml")
	require.NoError(t, err)
	_, err = agent.ParseConfig("weir.yaml", config)
	require.NoError(t, err)

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		kerneltest.Lacking(t, "systemd-analyze") // ci/install installs it
	}
	unit := filepath.Join(t.TempDir(), "weir.service")
	here, err := os.Executable()
	require.NoError(t, err)
	text = []byte(strings.NewReplacer("/usr/bin/weir", here, "man:weir-agent(1)", "https://example.com").Replace(string(text)))
	require.NoError(t, os.WriteFile(unit, text, 0o600))
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "weir.service", "systemd has a complaint")
}

// TestDockerfile builds with the Go of go.mod, and ends with the binary and certificates alone.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("packaging/Dockerfile")
	require.NoError(t, err)
	module, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	require.Contains(t, string(text), "FROM golang:"+string(version[1])+" AS build\n")
	_, last, ok := strings.Cut(string(text), "\nFROM scratch\n")
	require.True(t, ok)
	require.NotContains(t, last, "\nRUN ")
	args := regexp.MustCompile(`(?m)^CMD \["(.*)"\]$`).FindStringSubmatch(last)
	require.NotNil(t, args)
	runnable(t, strings.Split(args[1], `", "`))
}

// runnable looks at a command line of the agent.
func runnable(t *testing.T, args []string) {
	t.Helper()
	c, rest, err := command().Find(args)
	require.NoError(t, err)
	require.Equal(t, "agent", c.Name())
	require.NoError(t, c.ParseFlags(rest))
}

// TestManifests decodes what is applied, strictly, as the types of Kubernetes' API.
func TestManifests(t *testing.T) {
	text, err := os.ReadFile("packaging/kubernetes/weir.yaml")
	require.NoError(t, err)
	var (
		account core.ServiceAccount
		config  core.ConfigMap
		role    rbac.ClusterRole
		binding rbac.ClusterRoleBinding
		set     apps.DaemonSet
	)
	into := map[string]any{"ServiceAccount": &account, "ConfigMap": &config, "ClusterRole": &role,
		"ClusterRoleBinding": &binding, "DaemonSet": &set}
	for _, object := range regexp.MustCompile(`(?m)^---$`).Split(string(text), -1) {
		kind := regexp.MustCompile(`(?m)^kind: (\w+)$`).FindStringSubmatch(object)
		if kind == nil {
			continue
		}
		require.Contains(t, into, kind[1])
		require.NoError(t, strict.UnmarshalStrict([]byte(object), into[kind[1]]), kind[1])
		delete(into, kind[1])
	}
	require.Empty(t, into, "all are there")

	cfg, err := agent.ParseConfig("weir.yaml", []byte(config.Data["weir.yaml"]))
	require.NoError(t, err)
	require.NotEmpty(t, cfg.Labels.Clusters)
	require.Equal(t, role.Name, binding.RoleRef.Name)
	require.Equal(t, []string{account.Name, account.Namespace}, []string{binding.Subjects[0].Name, binding.Subjects[0].Namespace})

	pod := set.Spec.Template.Spec
	require.Equal(t, account.Name, pod.ServiceAccountName)
	require.Equal(t, set.Spec.Selector.MatchLabels["app.kubernetes.io/name"], set.Spec.Template.Labels["app.kubernetes.io/name"])
	c := pod.Containers[0]
	runnable(t, c.Args)
	for _, add := range c.SecurityContext.Capabilities.Add {
		require.Contains(t, capabilities(), string(add))
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		require.True(t, volumes[m.Name], m.Name)
	}
}

// TestPages has a man page of each command, which groff finds nothing wrong with, and completions that a shell reads.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	root := command()
	require.NoError(t, writePages(root, dir))
	pages, err := filepath.Glob(filepath.Join(dir, "man", "*.1"))
	require.NoError(t, err)
	require.Len(t, pages, visible(root))

	out, err := exec.Command("bash", "-n", filepath.Join(dir, "completions", "weir.bash")).CombinedOutput()
	require.NoError(t, err, string(out))
	for _, name := range []string{"_weir", "weir.fish"} {
		require.FileExists(t, filepath.Join(dir, "completions", name))
	}

	groff, err := exec.LookPath("groff")
	if err != nil {
		kerneltest.Lacking(t, "groff") // ci/install installs it
	}
	for _, page := range pages {
		cmd := exec.Command(groff, "-man", "-Kutf8", "-Tutf8", "-ww", "-z", page)
		var complaints strings.Builder
		cmd.Stdout, cmd.Stderr = io.Discard, &complaints
		require.NoError(t, cmd.Run())
		require.Empty(t, complaints.String(), page)
	}
}

// visible counts a command and those below it that users are told of.
func visible(c *cobra.Command) int {
	n := 1
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			n += visible(sub)
		}
	}
	return n
}
