package spec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/spelling"
)

// The grammar of scripts. A script is a "|" block; each line is
//
//	direction what... [x<count>] [# comment]
//
// where the direction is ">" (client to server) or "<". In a TCP script "what" is
//
//	flags [<payload bytes>] [seq=<number>] [ack=<number>]
//
// with flags joined by "," or "|", or "none". In a UDP script "what" is
//
//	<payload bytes>  |  unreachable <reason>
//
// Blank lines and lines with nothing but a comment are skipped.

// Bounds on scripts.
const (
	maxScriptLines = 10_000
	maxRepeat      = 100_000
	maxTCPPayload  = 65535 - 20 - 20
	maxUDPPayload  = 65535 - 20 - 8
)

// word is a word of a script line, with its place.
type word = node

// line is a script line cut into words.
type line struct {
	number     int
	fromServer bool
	words      []*word // without direction and repeat
	repeat     int
	end        *word // the place behind the last word, for what is missing
}

// scriptValue reads a script line by line; parse turns one line into an S and returns false when
// it has noted a mistake.
func scriptValue[S any](parse func(*list, line) (S, bool)) value[[]S] {
	s := schema{"type": "string", "pattern": `^\s*([<>#]|$)`}
	return value[[]S]{schema: s, read: func(l *list, n *node) ([]S, bool) {
		if n.kind != scalarKind || n.literal == 0 {
			l.add(n, fmt.Sprintf("want a script, got %s", n.what()),
				`write "script: |" and one line per packet below it, indented`)
			return nil, false
		}
		count := strings.Count(strings.TrimRight(n.text, "\n"), "\n") + 1
		if count > maxScriptLines {
			l.add(n, fmt.Sprintf("the script has %d lines", count),
				fmt.Sprintf("at most %d are read", maxScriptLines))
			return nil, false
		}
		out, good := []S{}, true
		for number := n.literal; number < n.literal+count && number <= len(l.lines); number++ {
			cut, some, ok := cutLine(l, n.key, number)
			good = good && ok
			if !some || !ok {
				continue
			}
			v, ok := parse(l, cut)
			out, good = append(out, v), good && ok
		}
		if good && len(out) == 0 {
			l.add(n, "the script has no line", "write a line like > SYN")
			return nil, false
		}
		return out, good
	}}
}

// cutLine cuts a line of the file into words. some is false when nothing stands on it.
func cutLine(l *list, key string, number int) (out line, some, ok bool) {
	words := splitWords(l.lines[number-1], key, number)
	if len(words) == 0 {
		return out, false, true
	}
	out = line{number: number, repeat: 1}
	last := words[len(words)-1]
	out.end = last.at(len(last.text), "")
	switch direction := words[0]; direction.text {
	case ">":
	case "<":
		out.fromServer = true
	default:
		l.add(direction, fmt.Sprintf("%q is no direction", shorten(direction.text)),
			"a line begins with > (client to server) or < and a space")
		return out, true, false
	}
	words = words[1:]
	if n := len(words); n > 0 && isRepeat(words[n-1].text) {
		count, err := strconv.ParseUint(words[n-1].text[1:], 10, 32)
		if err != nil || count < 1 || count > maxRepeat {
			l.add(words[n-1], fmt.Sprintf("%q is no repetition", shorten(words[n-1].text)),
				fmt.Sprintf("write x1 to x%d", maxRepeat))
			return out, true, false
		}
		out.repeat, words = int(count), words[:n-1]
	}
	out.words = words
	return out, true, true
}

// isRepeat tells whether a word is meant as a repetition: "x3".
func isRepeat(s string) bool {
	return len(s) > 1 && s[0] == 'x' && s[1] >= '0' && s[1] <= '9'
}

// splitWords splits at spaces; a word that begins with "#" and what follows is a comment.
func splitWords(s, key string, number int) []*word {
	var words []*word
	column := 1
	for {
		trimmed := strings.TrimLeft(s, " ")
		column += len(s) - len(trimmed)
		text, after, _ := strings.Cut(strings.TrimRight(trimmed, " \t\r"), " ")
		if text == "" || text[0] == '#' {
			return words
		}
		words = append(words, &word{line: number, column: column, key: key, text: text})
		column += len([]rune(text)) + 1
		s = after
	}
}

// parseSegment reads a line of a TCP script.
func parseSegment(l *list, in line) (Segment, bool) {
	s := Segment{Line: in.number, FromServer: in.fromServer, Repeat: in.repeat}
	if len(in.words) == 0 {
		l.add(in.end, "the line has no flags", "write a line like > PSH,ACK 120")
		return s, false
	}
	ok := parseFlags(l, in.words[0], &s)
	seen := map[string]bool{}
	for _, w := range in.words[1:] {
		name, number, isSetting := strings.Cut(w.text, "=")
		if !isSetting {
			name, number = "payload", w.text
		}
		if seen[name] {
			l.add(w, fmt.Sprintf("%q: the line has a %s already", shorten(w.text), name), "")
			return s, false
		}
		seen[name] = true
		ok = parseSetting(l, w, name, number, &s) && ok
	}
	return s, ok
}

// parseSetting reads one word behind the flags.
func parseSetting(l *list, w *word, name, number string, s *Segment) bool {
	high := uint64(1<<32 - 1)
	if name == "payload" {
		high = maxTCPPayload
	}
	v, err := strconv.ParseUint(number, 10, 64)
	valid := err == nil && v <= high
	relative := uint32(v)
	switch {
	case name == "payload" && err != nil:
		hint := "behind the flags stand a number of bytes, seq=, ack= and x<count>"
		if near := spelling.Nearest(number, []string{"seq=1", "ack=1"}); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near[:4])
		}
		l.add(w, fmt.Sprintf("%q is not understood", shorten(w.text)), hint)
	case name != "payload" && name != "seq" && name != "ack":
		l.add(w, fmt.Sprintf("%q is not understood", shorten(w.text)),
			suggest(name, []string{"seq", "ack"}))
		return false
	case !valid:
		l.add(w, fmt.Sprintf("%q is not a number from 0 to %d", shorten(number), high), "")
	case name == "payload":
		s.Payload = int(v)
	case name == "seq":
		s.Seq = &relative
	default:
		s.Ack = &relative
	}
	return valid
}

// parseFlags reads "SYN,ACK".
func parseFlags(l *list, w *word, s *Segment) bool {
	if w.text == "none" {
		return true
	}
	offset := 0
	for _, name := range strings.FieldsFunc(w.text, isFlagSeparator) {
		at := strings.Index(w.text[offset:], name) + offset
		offset = at + len(name)
		flag, err := flow.ParseTCPFlags(name)
		if err != nil {
			l.add(w.at(at, name), fmt.Sprintf("%q is no TCP flag", shorten(name)),
				suggest(name, tcpFlagNames()))
			return false
		}
		if s.Flags&flag != 0 {
			l.add(w.at(at, name), fmt.Sprintf("%q: the flag is given twice", name), "")
			return false
		}
		s.Flags |= flag
	}
	if s.Flags == 0 {
		l.add(w, fmt.Sprintf("%q has no flags", w.text), `write "none" for a segment without flags`)
	}
	return s.Flags != 0
}

func isFlagSeparator(r rune) bool { return r == ',' || r == '|' }

// tcpFlagNames lists the flags, from the low bit up.
func tcpFlagNames() []string { return strings.Split(flow.TCPFlags(0xff).String(), "|") }

// unreachableReasons are the ICMP errors of UDP scripts.
var unreachableReasons = []string{"port", "host", "network", "admin", "ttl", "too-big"}

// parseDatagram reads a line of a UDP script.
func parseDatagram(l *list, in line) (Datagram, bool) {
	d := Datagram{Line: in.number, FromServer: in.fromServer, Repeat: in.repeat}
	switch {
	case len(in.words) == 0:
		l.add(in.end, "the line has no payload", "write a line like > 100")
		return d, false
	case in.words[0].text == "unreachable":
		return parseUnreachable(l, in, d)
	case len(in.words) > 1:
		w := in.words[1]
		l.add(w, fmt.Sprintf("%q is not understood", shorten(w.text)),
			"behind the payload's bytes stands x<count> at most")
		return d, false
	}
	w := in.words[0]
	v, err := strconv.ParseUint(w.text, 10, 64)
	switch {
	case err != nil:
		l.add(w, fmt.Sprintf("%q is no number of bytes", shorten(w.text)),
			suggestOr(w.text, []string{"unreachable"}, "write a line like > 100, or < unreachable port"))
		return d, false
	case v > maxUDPPayload:
		l.add(w, fmt.Sprintf("%d bytes do not fit into a datagram", v),
			fmt.Sprintf("at most %d do", maxUDPPayload))
		return d, false
	}
	d.Payload = int(v)
	return d, true
}

func parseUnreachable(l *list, in line, d Datagram) (Datagram, bool) {
	if len(in.words) < 2 {
		l.add(in.end, "unreachable needs a reason", suggest("", unreachableReasons))
		return d, false
	}
	if len(in.words) > 2 {
		l.add(in.words[2], fmt.Sprintf("%q is not understood", shorten(in.words[2].text)),
			"one reason stands behind unreachable")
		return d, false
	}
	reason := in.words[1]
	for _, known := range unreachableReasons {
		if known == reason.text {
			d.Unreachable = known
			return d, true
		}
	}
	l.add(reason, fmt.Sprintf("%q is no reason", shorten(reason.text)),
		suggest(reason.text, unreachableReasons))
	return d, false
}

// suggestOr is the nearest word as a hint, or another hint when none is near.
func suggestOr(w string, known []string, other string) string {
	if near := spelling.Nearest(w, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return other
}

// checkErrors sees that each "unreachable" has a datagram to be about.
func checkErrors(l *list, n *node, script []Datagram) {
	sent := map[bool]bool{}
	for _, d := range script {
		if d.Unreachable == "" {
			sent[d.FromServer] = true
			continue
		}
		if !sent[!d.FromServer] {
			l.add(&node{line: d.Line, column: firstColumn(l.lines[d.Line-1]), key: n.key},
				"the error has no datagram of the other side before it", "")
			return
		}
	}
}

func firstColumn(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) + 1 }
