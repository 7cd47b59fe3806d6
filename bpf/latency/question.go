package latency

import "strings"

// Question is what a query asks for.
type Question struct {
	// Name is in the form of zone files (RFC 1035, section 5.1), as on the wire but for bytes
	// that are escaped, and ends with a dot. It is empty when the message has no question.
	Name string
	Type uint16
}

// labelMax is how long a label may be (RFC 1035, section 2.3.4).
const labelMax = 63

func question(asked uint8, kind uint16, wire []byte) Question {
	if asked == 0 {
		return Question{}
	}
	return Question{Name: nameText(wire), Type: kind}
}

// nameText writes labels as text. What would not read back as it was, or is no visible ASCII, is escaped:
// "\." and "\032". It stops at what is no label, and at one that is not there in full.
func nameText(wire []byte) string {
	var b strings.Builder
	for len(wire) > 0 && wire[0] > 0 && wire[0] <= labelMax && int(wire[0]) < len(wire) {
		for _, c := range wire[1 : 1+wire[0]] {
			switch {
			case c == '.' || c == '\\' || c == '"' || c == ';' || c == '(' || c == ')' ||
				c == '@' || c == '$':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c <= ' ' || c >= 0x7f:
				b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('.')
		wire = wire[1+wire[0]:]
	}
	if b.Len() == 0 {
		return "."
	}
	return b.String()
}
