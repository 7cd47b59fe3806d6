package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/rhysd/actionlint"
	"github.com/stretchr/testify/require"
	batch "k8s.io/api/batch/v1"
	strict "sigs.k8s.io/yaml"
)

// The files in ci/machines, which people copy, and our own workflows: as their linters see them, and as our
// commands are.

func TestGitHubWorkflow(t *testing.T) {
	ours, err := filepath.Glob(".github/workflows/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, ours)
	for _, file := range append(ours, "ci/machines/github.yml") {
		linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
		require.NoError(t, err)
		problems, err := linter.LintFile(file, nil)
		require.NoError(t, err)
		require.Empty(t, problems, file)
	}
}

func TestKubernetesJob(t *testing.T) {
	text, err := os.ReadFile("ci/machines/kubernetes.yaml")
	require.NoError(t, err)
	var job batch.Job
	require.NoError(t, strict.UnmarshalStrict(text, &job))
	require.Equal(t, "Job", job.Kind)
	require.Equal(t, batch.IndexedCompletion, *job.Spec.CompletionMode)
	pod := job.Spec.Template.Spec
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, m := range pod.Containers[0].VolumeMounts {
		require.True(t, volumes[m.Name], m.Name)
	}
}

// TestGitLabJobs checks what can be checked without a GitLab, which alone has a linter.
func TestGitLabJobs(t *testing.T) {
	text, err := os.ReadFile("ci/machines/gitlab.yml")
	require.NoError(t, err)
	var jobs struct {
		Stages []string
		Run    struct {
			Stage    string
			Parallel int
			Script   []string
		} `yaml:"weir:run"`
		Report struct {
			Stage  string
			Script []string
		} `yaml:"weir:report"`
	}
	require.NoError(t, yaml.Unmarshal(text, &jobs))
	require.Equal(t, jobs.Stages, []string{jobs.Run.Stage, jobs.Report.Stage})
	require.Positive(t, jobs.Run.Parallel)
	require.NotEmpty(t, jobs.Run.Script)
	require.NotEmpty(t, jobs.Report.Script)
}

// TestMachinesCommands checks weir's commands in all of them.
func TestMachinesCommands(t *testing.T) {
	c := newChecker(t)
	for _, file := range []string{"github.yml", "gitlab.yml", "kubernetes.yaml"} {
		text, err := os.ReadFile("ci/machines/" + file)
		require.NoError(t, err)
		checked := 0
		for line := range strings.Lines(string(text)) {
			at := strings.Index(line, "weir vm ")
			if at < 0 {
				at = strings.Index(line, "weir report ")
			}
			if at < 0 {
				continue
			}
			n, wrong := c.line(strings.TrimSpace(line[at:]))
			require.Empty(t, wrong, line)
			checked += n
		}
		require.GreaterOrEqual(t, checked, 2, file)
	}
}
