package spec

import (
	"fmt"
	"strings"
	"time"
)

// ExpectedFailure says that the scenario is red on a kernel line, until somebody mends that.
type ExpectedFailure struct {
	Kernel string // its line, like 5.10
	Reason string
	Link   string    // where it is told in full
	Until  time.Time // the last day, 0 o'clock UTC
}

// maxFailures bounds the expected failures of a scenario.
const maxFailures = 16

var failureObject = object[ExpectedFailure]{
	what: "an expected failure",
	fields: []field[ExpectedFailure]{
		put("kernel", "The kernel line on which the scenario fails.",
			match("a kernel line", `"5.10"`, `^[1-9][0-9]*\.[0-9]+$`, same),
			func(f *ExpectedFailure, v string) { f.Kernel = v }).must(),
		put("reason", "Why, in one sentence.", str("a sentence", maxSummary),
			func(f *ExpectedFailure, v string) { f.Reason = v }).must(),
		put("link", "Where it is told in full.", match("a link", "https://example.com/1", `^https?://\S+$`, same),
			func(f *ExpectedFailure, v string) { f.Link = v }).must(),
		put("until", "The last day on which it is expected.",
			match("a day", "2027-01-31", `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, func(s string) (time.Time, error) {
				day, err := time.Parse(time.DateOnly, s)
				if err != nil {
					err = fmt.Errorf("there is no such day")
				}
				return day, err
			}), func(f *ExpectedFailure, v time.Time) { f.Until = v }).must(),
	},
}

// FailsOn is the failure that is expected on a kernel of that release (uname -r), or nil.
func (e *Expect) FailsOn(release string) *ExpectedFailure {
	for i := range e.Fails {
		rest, ok := strings.CutPrefix(release, e.Fails[i].Kernel)
		if ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return &e.Fails[i]
		}
	}
	return nil
}
