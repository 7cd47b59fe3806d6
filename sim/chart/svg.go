package chart

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/weirnet/weir/sim/result"
)

// Measures of the image, in pixels. Its font is monospaced: a character is charWidth wide.
const (
	rowHeight = 26
	charWidth = 7.3
	margin    = 60
	topMargin = 78
	minStep   = 180
	maxStep   = 420
)

// style follows the reader's choice of light or dark.
const style = `:root{color-scheme:light dark;--ink:#1b1f24;--dim:#6b7480;--back:#fff;--band:#eef1f5;--event:#fdf3dc;--hook:#b4430d;--head:#dbe7f6}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--dim:#98a2b0;--back:#14171b;--band:#22272e;--event:#3a3018;--hook:#ff9a5c;--head:#23364f}}
text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:var(--ink)}.dim{fill:var(--dim)}.title{font-weight:bold}
.life{stroke:var(--dim);stroke-dasharray:2 3}.arrow{stroke:var(--ink);fill:none;stroke-width:1.3}.note{stroke-dasharray:5 4}
.tip{fill:var(--ink)}.back{fill:var(--back)}.band{fill:var(--band)}.event{fill:var(--event)}.hook{fill:var(--hook)}.head{fill:var(--head)}
.label{paint-order:stroke;stroke:var(--back);stroke-width:4px;stroke-linejoin:round}`

// SVG writes the chart as an image that needs nothing else, readable on light and dark.
func (c *Chart) SVG(w io.Writer) error {
	s := &svg{Chart: c, step: minStep}
	for i := range c.Items {
		if span := s.span(&c.Items[i]); span > 0 {
			words := float64(utf8.RuneCountInString(c.Items[i].words()))*charWidth + 40
			s.step = min(maxStep, max(s.step, int(words)/span))
		}
	}
	s.width = 2*margin + s.step*max(1, len(c.Hosts)-1) + margin
	s.height = topMargin + rowHeight*(len(c.Items)+1)
	s.frame()
	for i := range c.Items {
		s.item(&c.Items[i], topMargin+rowHeight*(i+1))
	}
	s.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, s.b.String())
	return err
}

// svg is an image in the making.
type svg struct {
	*Chart
	b                   strings.Builder
	step, width, height int
}

// span is how many lifelines an arrow goes across; 0 when there is no arrow.
func (s *svg) span(i *Item) int {
	switch {
	case i.Kind != Message && i.Kind != Note || i.From < 0:
		return 0
	case i.To < 0:
		return 1
	}
	return max(1, max(i.From, i.To)-min(i.From, i.To))
}

func (s *svg) put(format string, args ...any) { fmt.Fprintf(&s.b, format, args...) }

func (s *svg) x(host int) int { return 2*margin + host*s.step }

// escape makes text safe inside XML.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(result.Printable(text))) // a Builder does not fail
	return b.String()
}

// frame draws everything but the items.
func (s *svg) frame() {
	s.put(`<svg xmlns="http://www.w3.org/2000/svg" role="img" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n",
		s.width, s.height, s.width, s.height)
	s.put("<title>%s</title>\n<desc>%s</desc>\n<style>%s</style>\n", escape(s.Name), escape(s.Summary), style)
	s.put(`<rect class="back" width="100%%" height="100%%"/>` + "\n")
	s.put(`<text class="title" x="12" y="20">%s</text><text class="dim" x="12" y="38">%s</text>`+"\n",
		escape(s.Name), escape(s.Summary))
	for i, h := range s.Hosts {
		label := h.Name
		if len(h.Watched) > 0 {
			label += " ◆" + strings.Join(h.Watched, ",")
		}
		half := utf8.RuneCountInString(label)*4 + 8
		s.put(`<line class="life" x1="%d" y1="%d" x2="%d" y2="%d"/>`, s.x(i), topMargin, s.x(i), s.height-6)
		s.put(`<rect class="head" rx="4" x="%d" y="%d" width="%d" height="22"/>`, s.x(i)-half, topMargin-24, 2*half)
		s.put(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", s.x(i), topMargin-9, escape(label))
	}
}

func (s *svg) item(i *Item, y int) {
	switch i.Kind {
	case Step, Event:
		class := "band"
		if i.Kind == Event {
			class = "event"
		}
		s.put(`<rect class="%s" x="0" y="%d" width="100%%" height="%d"/>`, class, y-rowHeight/2-4, rowHeight-6)
		s.put(`<text class="dim" x="12" y="%d">%d</text><text x="48" y="%d">%s</text>`+"\n",
			y, i.Line, y, escape(i.Text))
	default:
		s.arrow(i, y)
	}
}

func (s *svg) arrow(i *Item, y int) {
	if i.From < 0 {
		s.put(`<text class="dim label" x="%d" y="%d">%s</text>`+"\n", s.x(0)+12, y, escape(i.words()))
		return
	}
	from, to := s.x(i.From), 0
	switch {
	case i.To >= 0:
		to = s.x(i.To)
	case i.From == len(s.Hosts)-1 && i.From > 0:
		to = from - s.step*3/4
	default:
		to = from + s.step*3/4
	}
	class, back := "arrow", 8
	if i.Kind == Note {
		class += " note"
	}
	if to < from {
		back = -8
	}
	s.put(`<line class="%s" x1="%d" y1="%d" x2="%d" y2="%d"/>`, class, from, y, to-back/2, y)
	s.put(`<path class="tip" d="M%d %dL%d %dL%d %dz"/>`, to, y, to-back, y-4, to-back, y+4)
	switch i.To {
	case Nobody:
		s.put(`<text x="%d" y="%d" text-anchor="middle">✕</text>`, to+back, y+4)
	case All:
		s.put(`<text x="%d" y="%d" text-anchor="middle">*</text>`, to+back, y+4)
	}
	for _, n := range i.Seen {
		s.put(`<path class="hook" d="M%d %dl5 5l-5 5l-5 -5z"/>`, s.x(n), y-5)
	}
	s.put(`<text class="label" x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (from+to)/2, y-4, escape(i.words()))
}
