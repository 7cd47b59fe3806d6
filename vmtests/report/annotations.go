package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/weirnet/weir/sim/result"
)

// annotationLines is how much of a difference an annotation carries.
const annotationLines = 20

// Annotations writes the red results as workflow commands of GitHub Actions, which shows them
// beside the scenario's file. Kernels with the same result share an annotation, for GitHub shows
// ten of each level per step. A kernel that could not be had is a warning.
func Annotations(w io.Writer, r *result.Report) error {
	var b bytes.Buffer
	for _, k := range r.Kernels {
		if k.Unavailable != "" {
			fmt.Fprintf(&b, "::warning title=%s::%s\n",
				property("kernel "+k.Line+" is unavailable"), data(k.Unavailable))
		}
	}
	for _, f := range newMatrix(r).failures() {
		s := f.scenario
		title := fmt.Sprintf("%s: %s on %s", s.Verdict, s.Name, f.lines())
		text := firstLines(strings.TrimRight(failureText(s), "\n"), annotationLines)
		fmt.Fprintf(&b, "::error file=%s,title=%s::%s\n",
			property(scenarioFile(s)), property(title), data(text))
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write annotations: %w", err)
	}
	return nil
}

// data escapes the message of a workflow command. Of what cannot be shown, lines stay.
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\n", "%0A").Replace(result.Printable(s))
}

// property escapes a property of a workflow command.
func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}
