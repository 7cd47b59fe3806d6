package vmtests

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/vmtests/matrix"
)

// terminal tells whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// liveLine shows how a run goes on: in a terminal as one line that changes, elsewhere as a plain
// line for each kernel.
type liveLine struct {
	w      io.Writer
	live   bool
	order  []string
	counts map[string]matrix.Progress
}

func newLiveLine(w io.Writer) *liveLine {
	return &liveLine{w: w, live: terminal(w), counts: map[string]matrix.Progress{}}
}

// show takes note of a step.
func (l *liveLine) show(p matrix.Progress) {
	if _, ok := l.counts[p.Line]; !ok {
		l.order = append(l.order, p.Line)
	}
	l.counts[p.Line] = p
	switch {
	case l.live:
		var b strings.Builder
		for _, line := range l.order {
			c := l.counts[line]
			fmt.Fprintf(&b, "%s %d/%d", line, c.Done, c.Total)
			if c.Red > 0 {
				fmt.Fprintf(&b, " (%d red)", c.Red)
			}
			b.WriteString("  ")
		}
		fmt.Fprintf(l.w, "\r\x1b[K%s", strings.TrimSpace(b.String()))
	case p.Event == matrix.Booted:
		fmt.Fprintf(l.w, "%-8s booted %s in %v\n", p.Line, p.Version, p.Took.Round(10*time.Millisecond))
	case p.Event == matrix.Done:
		fmt.Fprintf(l.w, "%-8s %d of %d green on %s\n", p.Line, p.Total-p.Red, p.Total, p.Version)
	}
}

// clear removes a line that changes.
func (l *liveLine) clear() {
	if l.live {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}
