package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirnet/weir/sim/result"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr,omitempty"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Skipped *junitMessage `xml:"skipped"`
	Out     string        `xml:"system-out,omitempty"`
	Err     string        `xml:"system-err,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// junitLog is how much of a log a JUnit case carries: CI systems refuse files of many megabytes.
const junitLog = 16 << 10

// JUnit writes the report as JUnit XML: a suite per kernel, a case per scenario. What is judged
// red is a failure with its differences as text; what the harness or the machine failed at is an
// error, and so is a kernel that could not be had.
func JUnit(w io.Writer, r *result.Report) error {
	all := junitSuites{Name: "weir", Time: seconds(r.Millis)}
	for i := range r.Kernels {
		s := suite(&r.Kernels[i], r.Started)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
		all.Suites = append(all.Suites, s)
	}
	out, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode JUnit XML: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", xml.Header, out); err != nil {
		return fmt.Errorf("write JUnit XML: %w", err)
	}
	return nil
}

// suite is the suite of one kernel.
func suite(k *result.Kernel, started time.Time) junitSuite {
	s := junitSuite{
		Name:      "kernel " + k.Line,
		Time:      seconds(k.Millis),
		Timestamp: started.UTC().Format("2006-01-02T15:04:05"),
	}
	for _, p := range []junitProperty{
		{"kernel", k.Version}, {"package", k.Package}, {"sha256", k.SHA256}, {"accel", k.Accel},
	} {
		if p.Value != "" {
			s.Properties = append(s.Properties, p)
		}
	}
	if k.Unavailable != "" {
		s.Cases = append(s.Cases, junitCase{
			Class: s.Name,
			Name:  "kernel available",
			Time:  seconds(0),
			Error: &junitMessage{Message: oneLine(k.Unavailable), Type: "unavailable",
				Text: k.Unavailable},
		})
	}
	for i := range k.Scenarios {
		s.Cases = append(s.Cases, testCase(s.Name, &k.Scenarios[i]))
	}
	for _, c := range s.Cases {
		s.Tests++
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	return s
}

// testCase is the case of one scenario.
func testCase(class string, s *result.Scenario) junitCase {
	c := junitCase{Class: class, Name: s.Name, File: scenarioFile(s), Time: seconds(s.Millis)}
	switch {
	case s.Verdict == result.Skip:
		c.Skipped = &junitMessage{Message: oneLine(s.Reason)}
	case s.Verdict.Red():
		m := &junitMessage{
			Message: oneLine(string(s.Verdict) + ": " + s.Reason),
			Type:    string(s.Verdict),
			Text:    clip(failureText(s), junitLog),
		}
		if s.Verdict.Judged() {
			c.Failure = m
		} else {
			c.Error = m
		}
		c.Out = result.Printable(clip(unixLines(s.AgentLog), junitLog))
		c.Err = result.Printable(clip(unixLines(s.Console), junitLog))
	}
	return c
}

// failureText says what is wrong and how to see it again.
func failureText(s *result.Scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s", result.Printable(s.Reason), diffText(s))
	if s.Reproduce != "" {
		fmt.Fprintf(&b, "reproduce: %s\n", oneLine(s.Reproduce))
	}
	return b.String()
}

// scenarioFile is the file that a scenario's author wrote.
func scenarioFile(s *result.Scenario) string { return "scenarios/" + s.Name + ".yaml" }

// seconds is a time in JUnit's unit.
func seconds(ms int64) string { return fmt.Sprintf("%.3f", float64(ms)/1000) }
