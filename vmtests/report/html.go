package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/weirnet/weir/sim/result"
)

//go:embed page/page.html
var pageHTML string

//go:embed page/page.css
var pageCSS string

//go:embed page/page.js
var pageJS string

// pageData is how much of a report the page carries, in bytes. Longer logs and differences are
// clipped until it fits, those of good cells first; results.json always has the whole.
const pageData = 2 << 20

// pageTemplate is the template of the page, parsed once.
var pageTemplate = sync.OnceValues(func() (*template.Template, error) {
	return template.New("page").Funcs(template.FuncMap{"duration": duration}).Parse(pageHTML)
})

// page is what the template shows.
type page struct {
	*result.Report
	Headline string
	Red      bool
	Looks    []lookCount
	Kernels  []pageKernel
	Folders  []pageFolder
	Tags     []string // of all scenarios
	Changed  int      // cells that are not as in the run before
	Costs    []costTable
	Times    []timeRow
	Slowest  []slowRow
	Policy   string
	Style    template.CSS
	Script   template.JS
	Data     template.JS
}

// lookCount is a verdict in the legend.
type lookCount struct {
	look
	Count int
}

// pageKernel is the head of a column.
type pageKernel struct {
	*result.Kernel
	Index                   int
	Key                     string
	Passed, Failed, Skipped int
}

// pageFolder is a folder of scenarios.
type pageFolder struct {
	Name string
	Rows []pageRow
}

// pageRow is a scenario.
type pageRow struct {
	Index               int
	Name, Base, Summary string
	Red                 bool
	Cells               []pageCell
}

// pageCell is a cell.
type pageCell struct {
	Kernel int
	Key    string // of the kernel
	Glyph  string // when there is no result
	Label  string
	Look   look
	*result.Scenario
}

// HTML writes the report as one page that needs no network and no other file. A cell opens by
// click, by Enter, or by the fragment scenario@kernel of the page's address.
func HTML(w io.Writer, r *result.Report) error {
	m := newMatrix(r)
	data, err := m.pageJSON(r.Outlines)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(pageJS))
	p := page{
		Report:   r,
		Headline: headline(r),
		Red:      r.Totals().Failed > 0,
		Looks:    m.looks(),
		Kernels:  m.pageKernels(),
		Folders:  m.pageFolders(),
		Tags:     m.tags(r.Outlines),
		Changed:  m.changed(),
		Costs:    costTables(m.kernels, m.keys),
		Times:    timeRows(m.kernels, m.keys),
		Slowest:  m.slowest(),
		Policy: fmt.Sprintf("default-src 'none'; img-src data:; style-src 'unsafe-inline'; "+
			"script-src 'sha256-%s'", base64.StdEncoding.EncodeToString(hash[:])),
		Style:  template.CSS(pageCSS),
		Script: template.JS(pageJS),
		Data:   template.JS(data),
	}
	t, err := pageTemplate()
	if err != nil {
		return fmt.Errorf("parse the page's template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fmt.Errorf("render the page: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// looks lists the verdicts that occur, with their number of cells.
func (m *matrix) looks() []lookCount {
	n := counts{}
	for _, w := range m.rows {
		for _, s := range w.cells {
			if s != nil {
				n[lookOf(s.Verdict).Verdict]++
			}
		}
	}
	var list []lookCount
	for _, l := range looks {
		if n[l.Verdict] > 0 {
			list = append(list, lookCount{l, n[l.Verdict]})
		}
	}
	return list
}

// tags lists all tags of the scenarios.
func (m *matrix) tags(outlines map[string]result.Outline) []string {
	all := map[string]bool{}
	for _, w := range m.rows {
		for _, t := range outlines[w.name].Tags {
			all[t] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// changed counts the cells that are not as in the run before.
func (m *matrix) changed() (n int) {
	for _, w := range m.rows {
		for _, s := range w.cells {
			if s != nil && s.Change != "" {
				n++
			}
		}
	}
	return n
}

// pageKernels lists the heads of the columns.
func (m *matrix) pageKernels() []pageKernel {
	var list []pageKernel
	for i, k := range m.kernels {
		c := countsOf(k)
		list = append(list, pageKernel{k, i, m.keys[i], c.passed(), c.failed(), c.skipped()})
	}
	return list
}

// pageFolders lists the rows by folder.
func (m *matrix) pageFolders() []pageFolder {
	var list []pageFolder
	for i, w := range m.rows {
		name := folder(w.name)
		if len(list) == 0 || list[len(list)-1].Name != name {
			list = append(list, pageFolder{Name: name})
		}
		f := &list[len(list)-1]
		f.Rows = append(f.Rows, pageRow{
			Index: i, Name: w.name, Base: path.Base(w.name), Summary: w.summary,
			Red: w.red(), Cells: m.pageCells(w),
		})
	}
	return list
}

// pageCells lists the cells of a row.
func (m *matrix) pageCells(w row) []pageCell {
	var list []pageCell
	for i, s := range w.cells {
		c := pageCell{Kernel: i, Key: m.keys[i], Scenario: s}
		switch {
		case s != nil:
			c.Look = lookOf(s.Verdict)
			c.Label = fmt.Sprintf("%s on %s: %s, %s",
				w.name, m.keys[i], s.Verdict, duration(s.Millis))
			if s.Change != "" {
				c.Label += ", " + s.Change
			}
		case m.kernels[i].Unavailable != "":
			c.Glyph, c.Label = glyphUnavailable, "kernel unavailable"
		default:
			c.Glyph, c.Label = glyphNone, "not planned"
		}
		list = append(list, c)
	}
	return list
}

// pageScript is the part of a report that the page's script shows on demand.
type pageScript struct {
	Looks   []look         `json:"looks"`
	Kernels []scriptKernel `json:"kernels"`
	Rows    []scriptRow    `json:"rows"`
}

type scriptKernel struct {
	Key string `json:"key"`
	result.Kernel
	Scenarios []struct{} `json:"scenarios,omitempty"` // hides the kernel's own
}

type scriptRow struct {
	Name    string        `json:"name"`
	Summary string        `json:"summary,omitempty"`
	Tags    []string      `json:"tags,omitempty"`
	Chart   *result.Chart `json:"chart,omitempty"`
	Cells   []*scriptCell `json:"cells"`
}

type scriptCell struct {
	result.Scenario
	Name    string `json:"name,omitempty"`    // hides the scenario's own
	Summary string `json:"summary,omitempty"` // likewise
	More    int    `json:"more,omitempty"`    // differences left out
}

// limits are how much of a cell the page carries.
type limits struct {
	redLog, goodLog, diffs int
	chart                  int // rows of a sequence chart
}

// pageJSON encodes the cells for the script, clipped to fit pageData. What it returns can stand
// inside a script element: encoding/json escapes angle brackets.
func (m *matrix) pageJSON(outlines map[string]result.Outline) ([]byte, error) {
	l := limits{redLog: 64 << 10, goodLog: 4 << 10, diffs: 200, chart: 100}
	for {
		data, err := json.Marshal(m.pageScript(l, outlines))
		if err != nil {
			return nil, fmt.Errorf("encode the page's data: %w", err)
		}
		if len(data) <= pageData || l == (limits{}) {
			return data, nil
		}
		if l.goodLog > 256 {
			l.goodLog /= 4
			continue
		}
		l = limits{redLog: l.redLog / 2, goodLog: l.goodLog / 2, diffs: l.diffs * 2 / 3, chart: l.chart * 2 / 3}
	}
}

// pageScript is the data for the script within limits.
func (m *matrix) pageScript(l limits, outlines map[string]result.Outline) pageScript {
	p := pageScript{Looks: looks, Kernels: []scriptKernel{}, Rows: []scriptRow{}}
	for i, k := range m.kernels {
		p.Kernels = append(p.Kernels, scriptKernel{Key: m.keys[i], Kernel: *k})
	}
	for _, w := range m.rows {
		o := outlines[w.name]
		sr := scriptRow{Name: w.name, Summary: w.summary, Tags: o.Tags, Chart: l.chartOf(o.Chart), Cells: []*scriptCell{}}
		for _, s := range w.cells {
			sr.Cells = append(sr.Cells, l.cell(s))
		}
		p.Rows = append(p.Rows, sr)
	}
	return p
}

// chartOf is a chart within limits; one without items is none.
func (l limits) chartOf(c *result.Chart) *result.Chart {
	if c == nil || l.chart == 0 || len(c.Items) <= l.chart {
		if l.chart == 0 {
			return nil
		}
		return c
	}
	return &result.Chart{Hosts: c.Hosts, Items: c.Items[:l.chart], More: c.More + len(c.Items) - l.chart}
}

// cell is a cell within limits.
func (l limits) cell(s *result.Scenario) *scriptCell {
	if s == nil {
		return nil
	}
	c := &scriptCell{Scenario: *s}
	log := l.goodLog
	if s.Verdict.Red() {
		log = l.redLog
	}
	c.AgentLog = clip(unixLines(s.AgentLog), log)
	c.Console = clip(unixLines(s.Console), log)
	c.Reason = clip(s.Reason, 1024+log)
	if n := len(s.Differences); n > l.diffs {
		c.Differences, c.More = s.Differences[:l.diffs], n-l.diffs
	}
	return c
}
