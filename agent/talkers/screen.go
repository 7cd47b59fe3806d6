package talkers

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Key is what a key press does to a filter.
type Key int

// What key presses do.
const (
	Edited Key = iota
	Quit
)

// Control characters (ECMA-48 and the usual settings of terminals).
const (
	ctrlC     = 0x03
	ctrlD     = 0x04
	backspace = 0x08
	ctrlU     = 0x15
	ctrlW     = 0x17
	escape    = 0x1b
	del       = 0x7f
)

// Type changes a filter by what was typed. Escape or Ctrl-U empties it, Ctrl-C or Ctrl-D quits.
func Type(filter string, typed []byte) (string, Key) {
	if len(typed) > 1 && typed[0] == escape {
		return filter, Edited // an arrow or a function key
	}
	for len(typed) > 0 {
		r, n := utf8.DecodeRune(typed)
		typed = typed[n:]
		switch {
		case r == ctrlC || r == ctrlD:
			return filter, Quit
		case r == escape || r == ctrlU:
			filter = ""
		case r == ctrlW:
			trimmed := strings.TrimRight(filter, " ")
			filter = trimmed[:strings.LastIndexByte(trimmed, ' ')+1]
		case r == backspace || r == del:
			_, n := utf8.DecodeLastRuneInString(filter)
			filter = filter[:len(filter)-n]
		case unicode.IsPrint(r) && r != utf8.RuneError:
			filter += string(r)
		}
	}
	return filter, Edited
}

// Sequences of a terminal (ECMA-48, and xterm's private modes).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// Enter takes the whole terminal, Leave gives it back as it was.
func Enter(w io.Writer) error { _, err := io.WriteString(w, enterScreen); return err }

// Leave gives back the terminal.
func Leave(w io.Writer) error { _, err := io.WriteString(w, leaveScreen); return err }

// Draw puts lines on a terminal in raw mode, as far as they fit, the last of them at the bottom.
func Draw(w io.Writer, width, height int, lines []string, bottom string) error {
	var b strings.Builder
	b.WriteString(home)
	for i := 0; i < height-1 && i < len(lines); i++ {
		b.WriteString(Clean(lines[i], width) + eraseLine + "\r\n")
	}
	b.WriteString(eraseBelow)
	fmt.Fprintf(&b, "\x1b[%d;1H%s%s", max(height, 1), Clean(bottom, width), eraseLine)
	_, err := io.WriteString(w, b.String())
	return err
}

// Clean cuts a line to so many characters, and shows what would move the cursor as a question mark: names in
// labels come from elsewhere.
func Clean(line string, width int) string {
	var b strings.Builder
	n := 0
	for _, r := range line {
		if n >= width {
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
