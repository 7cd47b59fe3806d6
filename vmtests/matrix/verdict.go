package matrix

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/weirnet/weir/sim/require"
	"github.com/weirnet/weir/sim/result"
)

// consoleKept bounds the console in a result, in bytes: its end, where the cause is.
const consoleKept = 16 << 10

var (
	stamp      = regexp.MustCompile(`(?m)^(\[ *[0-9]+\.[0-9]+\](\[ *[CT][0-9]+\])? )`)
	panicLine  = regexp.MustCompile(`(?m)^Kernel panic - not syncing: (.*)$`)
	causeLine  = regexp.MustCompile(`(?m)^(BUG: .*|watchdog: BUG: .*|general protection fault.*)$`)
	memoryLine = regexp.MustCompile(`(?m)^Out of memory: .*$`)
)

// panicCause finds the panic on a console, and what it says about its cause.
func panicCause(console string) (cause string, ok bool) {
	text := stamp.ReplaceAllString(console, "")
	m := panicLine.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	cause = "kernel panic: " + strings.TrimSpace(m[1])
	for _, re := range []*regexp.Regexp{causeLine, memoryLine} {
		if first := re.FindString(text); first != "" && !strings.Contains(cause, first) {
			return cause + " (" + strings.TrimSpace(first) + ")", true
		}
	}
	return cause, true
}

// apply makes the verdict of an ending that of its culprit. A record that came before is kept in
// what the ending does not say.
func (e ending) apply(results []*result.Scenario, name string) {
	if e.culprit == noScenario {
		return
	}
	s := results[e.culprit]
	if s == nil {
		s = &result.Scenario{Name: name}
		results[e.culprit] = s
	}
	s.Verdict, s.Reason = e.verdict, e.reason
	if s.Millis == 0 {
		s.Millis = e.took.Milliseconds()
	}
	if s.Console == "" {
		s.Console = clip(e.console)
	}
	if e.log != "" {
		s.AgentLog = e.log
	}
}

// demand makes a skip red when it is for want of something that a kernel of this version has where
// the harness takes it from: a module that is not loaded must not pass for an old kernel.
func demand(s *result.Scenario, version string) {
	if s.Verdict != result.Skip {
		return
	}
	expected := slices.DeleteFunc(slices.Clone(s.Missing), func(f string) bool {
		return !require.Expected(f, version)
	})
	if len(expected) > 0 {
		s.Verdict = result.Fail
		s.Reason = fmt.Sprintf("%s, but %s should have %s", s.Reason, version, strings.Join(expected, ", "))
	}
}

// reasonKept bounds a reason, in bytes. A verifier's log can be in one.
const reasonKept = 400

// shorten makes a reason one short line, and gives the whole of it as a log if that loses any.
func shorten(reason string) (line, log string) {
	line = strings.Join(strings.Fields(reason), " ")
	if len(line) > reasonKept {
		line = strings.ToValidUTF8(line[:reasonKept], "") + " ..."
	}
	if len(line) < len(reason) {
		log = reason
	}
	return line, log
}

func clip(text string) string {
	if len(text) <= consoleKept {
		return text
	}
	return "[...]\n" + text[len(text)-consoleKept:]
}

func joinLines(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return clip(strings.Join(lines, "\n") + "\n")
}

// firstLine is the first line of a program's last words that says something.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}
