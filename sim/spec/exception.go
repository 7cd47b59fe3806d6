package spec

import (
	"fmt"
	"strings"
	"time"
)

// Exception is something that is different on one kernel line, for a while: that a scenario is red
// there, or that its golden file is another.
type Exception struct {
	Kernel string // its line, like 5.10
	Reason string
	Link   string    // where it is told in full
	Until  time.Time // the last day, 0 o'clock UTC
}

// maxExceptions bounds the exceptions of one kind.
const maxExceptions = 16

var exceptionObject = object[placed[Exception]]{
	what: "an exception for a kernel",
	fields: []field[placed[Exception]]{
		put("kernel", "The kernel line for which it holds.",
			keepPlace(match("a kernel line", `"5.10"`, `^[1-9][0-9]*\.[0-9]+$`, same)),
			func(e *placed[Exception], v placed[string]) { e.v.Kernel, e.at = v.v, v.at }).must(),
		put("reason", "Why, in one sentence.", str("a sentence", maxSummary),
			func(e *placed[Exception], v string) { e.v.Reason = v }).must(),
		put("link", "Where it is told in full.", match("a link", "https://example.com/1", `^https?://\S+$`, same),
			func(e *placed[Exception], v string) { e.v.Link = v }).must(),
		put("until", "The last day on which it holds.",
			match("a day", "2027-01-31", `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, func(s string) (time.Time, error) {
				day, err := time.Parse(time.DateOnly, s)
				if err != nil {
					err = fmt.Errorf("there is no such day")
				}
				return day, err
			}), func(e *placed[Exception], v time.Time) { e.v.Until = v }).must(),
	},
}

// exceptionsField is a list of exceptions, one for a kernel at most, for fails and golden together: what
// fails has no golden file to fit.
func exceptionsField(name, doc string, to func(*Expect, *node) *[]Exception) field[Expect] {
	all := listOf("exceptions", exceptionObject.value(), 1, maxExceptions)
	return field[Expect]{name: name, doc: doc, schema: all.schema, read: func(l *list, n *node, e *Expect) {
		exceptions, ok := all.read(l, n)
		if !ok {
			return
		}
		for _, x := range exceptions {
			if e.exceptionFor(x.v.Kernel) {
				l.add(x.at, fmt.Sprintf("there is an exception for %s already", x.v.Kernel),
					"a kernel has one, in fails or in golden")
				continue
			}
			list := to(e, n)
			*list = append(*list, x.v)
		}
	}}
}

func (e *Expect) exceptionFor(line string) bool {
	return exceptionOn(e.Fails, line) != nil || exceptionOn(e.Golden, line) != nil
}

// FailsOn is the failure that is expected on a kernel of that release (uname -r), or nil.
func (e *Expect) FailsOn(release string) *Exception { return exceptionOn(e.Fails, release) }

// GoldenOn is why a kernel of that release has a golden file of its own, or nil.
func (e *Expect) GoldenOn(release string) *Exception { return exceptionOn(e.Golden, release) }

func exceptionOn(all []Exception, release string) *Exception {
	for i := range all {
		rest, ok := strings.CutPrefix(release, all[i].Kernel)
		if ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return &all[i]
		}
	}
	return nil
}

// Told is the reason, and where to read more.
func (e *Exception) Told() string { return fmt.Sprintf("%s (%s)", e.Reason, e.Link) }

// Expired tells that the last day is over.
func (e *Exception) Expired(now time.Time) bool { return !now.Before(e.Until.AddDate(0, 0, 1)) }
