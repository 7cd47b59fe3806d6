package chart

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/weirnet/weir/sim/result"
)

const (
	// gutter is the width of the column of line numbers.
	gutter = 6
	// minGap and maxGap bound the distance between two lifelines, in columns.
	minGap, maxGap = 12, 48
)

// Text draws the chart for a terminal of that many columns, with Unicode's lines. With many
// hosts it may become wider: nothing is cut off.
func (c *Chart) Text(w io.Writer, width int) error {
	t := &text{Chart: c}
	t.place(width)
	t.heads()
	for i := range c.Items {
		t.item(&c.Items[i])
	}
	t.lifelines()
	_, err := io.WriteString(w, t.b.String())
	return err
}

// text is a drawing in the making.
type text struct {
	*Chart
	b     strings.Builder
	gap   int
	left  int // of the first lifeline
	width int
}

// place decides where lifelines stand.
func (t *text) place(width int) {
	first, last := 4, 4
	if n := len(t.Hosts); n > 0 {
		first = utf8.RuneCountInString(t.label(0))/2 + 1
		last = utf8.RuneCountInString(t.label(n-1))/2 + 1
	}
	t.left = gutter + first
	t.gap = maxGap
	if n := len(t.Hosts); n > 1 {
		t.gap = min(maxGap, (width-t.left-last)/(n-1))
	}
	for i := range t.Hosts {
		t.gap = max(t.gap, minGap, utf8.RuneCountInString(t.label(i))+2)
	}
	t.width = max(t.column(len(t.Hosts)-1)+last, gutter+40)
}

// column is where a lifeline stands.
func (t *text) column(host int) int { return t.left + max(host, 0)*t.gap }

// label is a lifeline's head.
func (t *text) label(i int) string {
	h := t.Hosts[i]
	name := h.Name
	if len(h.Watched) > 0 {
		name += " ◆" + strings.Join(h.Watched, ",")
	}
	return result.Printable(name)
}

// row is one line of the drawing.
type row []rune

// write puts text at a column; what does not fit makes the row longer.
func (r *row) write(at int, s string) {
	for _, c := range s {
		for len(*r) <= at {
			*r = append(*r, ' ')
		}
		(*r)[at] = c
		at++
	}
}

func (t *text) emit(r row) {
	t.b.WriteString(strings.TrimRight(string(r), " "))
	t.b.WriteByte('\n')
}

// bare is a row with all lifelines.
func (t *text) bare() row {
	var r row
	for i := range t.Hosts {
		r.write(t.column(i), "│")
	}
	return r
}

func (t *text) lifelines() { t.emit(t.bare()) }

func (t *text) heads() {
	fmt.Fprintf(&t.b, "%s: %s\n", result.Printable(t.Name), result.Printable(t.Summary))
	t.b.WriteString("◆ where the agent watches, and the frames it sees there\n")
	for _, h := range t.Hosts {
		if h.Tracked {
			fmt.Fprintf(&t.b, "the connection tracking of %s must agree with the agent at the end\n", h.Name)
		}
	}
	t.b.WriteString("\n")
	var r row
	for i := range t.Hosts {
		label := t.label(i)
		r.write(max(0, t.column(i)-utf8.RuneCountInString(label)/2), label)
	}
	t.emit(r)
	t.lifelines()
}

func (t *text) item(i *Item) {
	switch i.Kind {
	case Step, Event:
		t.band(i)
	case Message:
		t.arrow(i, '─')
	case Note:
		t.arrow(i, '╌')
	}
}

// band is a heading across all lifelines.
func (t *text) band(i *Item) {
	line := "─"
	if i.Kind == Event {
		line = "═"
	}
	var r row
	label := " " + result.Printable(i.Text) + " "
	r.write(0, fmt.Sprintf("%4d", i.Line))
	r.write(gutter, strings.Repeat(line, max(t.width-gutter, utf8.RuneCountInString(label)+4)))
	r.write(gutter+2, label)
	t.emit(r)
}

// words is the label of an arrow.
func (i *Item) words() string {
	s := i.Text
	if len(i.Marks) > 0 {
		s += " ‹" + strings.Join(i.Marks, ", ") + "›"
	}
	if i.Count > 1 {
		s += fmt.Sprintf(" ×%d", i.Count)
	}
	return result.Printable(s)
}

// arrow draws a frame, with its label on the line when there is room, else above.
func (t *text) arrow(i *Item, line rune) {
	if i.From < 0 {
		r := t.bare()
		r.write(t.left+2, " "+i.words()+" ")
		t.emit(r)
		return
	}
	from, to := t.column(i.From), t.end(i)
	low, high := min(from, to), max(from, to)
	label := " " + i.words() + " "
	size := utf8.RuneCountInString(label)
	r := t.bare()
	start, inside := t.room(i, low, high, size)
	if !inside {
		at := max(gutter, min((low+high-size)/2+1, t.width-size))
		r.write(at, label)
		t.emit(r)
		r = t.bare()
	}
	for c := low + 1; c < high; c++ {
		r.write(c, string(line))
	}
	for n := range t.Hosts {
		if c := t.column(n); c > low && c < high {
			r.write(c, "┼")
		}
	}
	if to > from {
		r.write(to-1, "▶")
	} else {
		r.write(to+1, "◀")
	}
	switch i.To {
	case Nobody:
		r.write(to, "✕")
	case All:
		r.write(to, "*")
	}
	if inside {
		r.write(start, label)
	}
	for _, n := range i.Seen {
		r.write(t.column(n), "◆")
	}
	t.emit(r)
}

// room finds where a label stands on its arrow: in the middle, or between two lifelines when a hook
// in the middle would be covered.
func (t *text) room(i *Item, low, high, size int) (start int, ok bool) {
	start = low + (high-low-size)/2 + 1
	covered := slices.ContainsFunc(i.Seen, func(n int) bool {
		c := t.column(n)
		return c >= start && c < start+size
	})
	if covered {
		high = min(high, low+t.gap)
		start = low + (high-low-size)/2 + 1
	}
	return start, size <= high-low-5
}

// end is the column where an arrow ends. One to nobody or to all ends short of the next lifeline,
// on the side where there is room.
func (t *text) end(i *Item) int {
	if i.To >= 0 {
		return t.column(i.To)
	}
	if i.From == len(t.Hosts)-1 && i.From > 0 {
		return t.column(i.From) - t.gap*3/4
	}
	return t.column(i.From) + t.gap*3/4
}
