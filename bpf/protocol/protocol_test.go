// Package protocol checks the models of the datapath's protocol, protocol.pml, slots.pml and move.pml,
// with spin. See README.md.
package protocol

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model is one of the models, with the configurations in which the protocol must hold in every
// interleaving, and seeded bugs with the smallest configuration that shows each.
type model struct {
	file   string
	sound  map[string]string
	seeded map[string]string
}

var models = []model{{
	file: "protocol.pml",
	sound: map[string]string{
		"two CPUs":              "",
		"two sweeps":            "FEWER=1 SWEEPS=2",
		"larger ring":           "FEWER=1 RING=2",
		"element given away":    "FEWER=1 TUPLES=2",
		"two elements":          "PACKETS=1 TUPLES=2 ELEMENTS=2",
		"drain":                 "FEWER=1 DRAINS=1",
		"SYN":                   "FEWER=1 OPENS_FIRST",
		"SYN, given away":       "PACKETS=1 TUPLES=2 OPENS_FIRST",
		"kill":                  "FEWER=1 KILL",
		"kill after three":      "CPUS=1 PACKETS=3 KILL",
		"kill and drain":        "CPUS=1 DRAINS=1 KILL",
		"kill, two tuples":      "PACKETS=1 TUPLES=2 KILL",
		"kill, element for two": "CPUS=1 TUPLES=2 KILL",
		"iterator":              "FEWER=1 SWEEPS=2 ITERATE",
		"iterator, given away":  "FEWER=1 TUPLES=2 ITERATE",
		"iterator, kill":        "CPUS=1 PACKETS=3 KILL ITERATE",
	},
	seeded: map[string]string{
		"BUG_ACK_ANY_FLOW":            "FEWER=1",
		"BUG_DELETE_ANY_LIFE":         "FEWER=1",
		"BUG_DELETE_WITHOUT_RETIRE":   "FEWER=1",
		"BUG_ENDING_FORGOTTEN":        "FEWER=1",
		"BUG_LATE_WITHOUT_GRACE":      "FEWER=1",
		"BUG_LIFE_BEFORE_COUNTERS":    "FEWER=1",
		"BUG_NO_ACK_WHILE_ENDING":     "FEWER=1",
		"BUG_NO_GRACE":                "FEWER=1",
		"BUG_NO_LATE":                 "FEWER=1",
		"BUG_REPLACE_STORES_ZERO":     "FEWER=1",
		"BUG_RING_FULL_IS_SILENT":     "FEWER=1",
		"BUG_STOP_WITHOUT_GRACE":      "FEWER=1",
		"BUG_WALK_WITHOUT_LOCK":       "FEWER=1",
		"BUG_ID_BEFORE_LIFE":          "FEWER=1 ITERATE",
		"BUG_LIVE_BEFORE_WRITTEN":     "FEWER=1 ITERATE",
		"BUG_NOT_LOOKED_AGAIN":        "FEWER=1 ITERATE",
		"BUG_NOT_LOOKED_BEFORE":       "FEWER=1 SWEEPS=2 ITERATE",
		"BUG_COUNTED_BEFORE_DELETED":  "FEWER=1 TUPLES=2",
		"BUG_COUNT_BEFORE_KEY":        "FEWER=1 TUPLES=2",
		"BUG_COUNT_READ_LATE":         "FEWER=1 TUPLES=2",
		"BUG_KEY_AFTER_LIFE":          "FEWER=1 TUPLES=2",
		"BUG_REPLACE_READS_KEY_FIRST": "FEWER=1 TUPLES=2",
		"BUG_UPDATE_READS_KEY_FIRST":  "FEWER=1 TUPLES=2",
		"BUG_ACK_BEFORE_FLUSH":        "CPUS=1 PACKETS=3 KILL",
		"BUG_DELETE_BEFORE_FLUSH":     "CPUS=1 PACKETS=3 KILL",
		"BUG_RELEASE_BEFORE_FLUSH":    "CPUS=1 PACKETS=3 KILL",
		"CLAIM_SAME_START":            "CPUS=1 PACKETS=3 KILL",
	},
}, {
	file: "slots.pml",
	sound: map[string]string{
		"two sweeps":           "FEWER=1 SWEEPS=2",
		"a slot for two":       "FEWER=1 TUPLES=2",
		"slots that go on":     "PACKETS=3 FEWER=1",
		"both CPUs hold slots": "",
	},
	seeded: map[string]string{
		"BUG_COPY_BEFORE_SLOTS":    "PACKETS=3 FEWER=1",
		"BUG_FOLD_WITHOUT_LOCK":    "FEWER=1 TUPLES=2",
		"BUG_FREED_WITHOUT_FOLD":   "FEWER=1",
		"BUG_LISTED_AFTER_GRACE":   "PACKETS=3 FEWER=1",
		"BUG_NOT_ASKED_AGAIN":      "FEWER=1 TUPLES=2",
		"BUG_NO_GRACE":             "FEWER=1",
		"BUG_OPENED_WITHOUT_LOOK":  "FEWER=1",
		"BUG_READ_BEFORE_FOLD":     "FEWER=1",
		"BUG_REPLACE_LEAVES_SLOTS": "PACKETS=3 FEWER=1",
		"BUG_RETIRE_LEAVES_SLOTS":  "FEWER=1",
		"BUG_TAKEN_IS_KEPT":        "PACKETS=3 FEWER=1",
	},
}, {
	file: "move.pml",
	sound: map[string]string{
		"two CPUs":         "",
		"two resizes":      "RESIZES=2",
		"kill":             "KILL",
		"kill after three": "CPUS=1 PACKETS=3 KILL",
		"kill in either":   "PACKETS=1 RESIZES=2 KILL",
	},
	seeded: map[string]string{
		"BUG_MERGE_STORES":         "",
		"BUG_MOVED_WITHOUT_LOOK":   "",
		"BUG_NO_GRACE":             "",
		"BUG_YOUNGER_NAME":         "",
		"BUG_DELETED_BEFORE_FLUSH": "CPUS=1 KILL",
		"BUG_DELETED_LATER":        "CPUS=1 KILL",
		"BUG_IN_USE_BEFORE_PINNED": "CPUS=1 KILL",
	},
}}

func TestProtocolHolds(t *testing.T) {
	needSpin(t)
	for _, m := range models {
		for name, defines := range m.sound {
			t.Run(m.file+"/"+name, func(t *testing.T) {
				t.Parallel()
				out := search(t, m.file, defines)
				require.Contains(t, out, "errors: 0\n")
				for _, incomplete := range []string{"Search not completed", "max search depth", "MEMLIM"} {
					require.NotContains(t, out, incomplete)
				}
				t.Log(figures.FindAllString(out, -1), "for", defines)
			})
		}
	}
}

func TestSeededBugsAreFound(t *testing.T) {
	needSpin(t)
	for _, m := range models {
		text, err := os.ReadFile(m.file)
		require.NoError(t, err)
		for _, bug := range conditional.FindAllSubmatch(text, -1) {
			require.Contains(t, m.seeded, string(bug[1]), "a bug that no run seeds")
		}
		for bug, defines := range m.seeded {
			t.Run(m.file+"/"+bug, func(t *testing.T) {
				t.Parallel()
				require.Contains(t, string(text), bug)
				out := search(t, m.file, defines+" "+bug)
				require.Contains(t, out, "errors: 1\n")
				require.Contains(t, out, "assertion violated")
			})
		}
	}
}

var (
	figures     = regexp.MustCompile(`\d+ states, stored|elapsed time \S+|[\d.]+\ttotal actual memory`)
	conditional = regexp.MustCompile(`(?m)^#ifn?def ((?:BUG|CLAIM)_\w+)`)
)

func needSpin(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short, and the race detector has nothing to see here")
	}
	for _, program := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		const text = "%s is missing: apt-get install spin gcc libc6-dev (or ci/install test)"
		if os.Getenv("CI") == "true" {
			t.Fatalf(text, program)
		}
		t.Skipf("skipped: "+text, program)
	}
}

// search makes spin's verifier of the model and lets it visit every state. No run is
// long enough to be worth a compiler that optimizes, nor large enough for states that are
// packed; the table of states has 1<<22 slots, about as many as there are states.
func search(t *testing.T, file, defines string) string {
	t.Helper()
	model, err := filepath.Abs(file)
	require.NoError(t, err)
	dir := t.TempDir()
	args := []string{"-a"}
	for _, d := range strings.Fields(defines) {
		args = append(args, "-D"+d)
	}
	run(t, dir, "spin", append(args, model)...)
	compile := []string{"-O0", "-w", "-DSAFETY", "-DMEMLIM=2000", "-o", "pan", "pan.c"}
	if slices.Contains(args, "-DKILL") {
		compile = append(compile, "-DNOREDUCE") // an unless can make a reduction unsound
	}
	run(t, dir, "gcc", compile...)
	return run(t, dir, "./pan", "-m10000", "-w22")
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), out.String())
	return out.String()
}
