package kernel

import (
	"strconv"
	"strings"
)

// compareVersions orders two Debian package versions as dpkg does: negative when a is older,
// zero when they are equal, positive when a is newer. "7.3~rc7" is older than "7.3".
func compareVersions(a, b string) int {
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	if ea != eb {
		return ea - eb
	}
	if c := comparePart(ua, ub); c != 0 {
		return c
	}
	return comparePart(ra, rb)
}

// splitVersion takes a package version apart into epoch, upstream version and revision.
func splitVersion(v string) (epoch int, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		if n, err := strconv.Atoi(e); err == nil {
			epoch, v = n, rest
		}
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// comparePart compares an upstream version or a revision: runs of non-digits and runs of digits
// in turn, the former by character order, the latter by value.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !digit(a[0])) || (b != "" && !digit(b[0])) {
			if ca, cb := order(a), order(b); ca != cb {
				return ca - cb
			}
			a, b = a[1:], b[1:]
		}
		var na, nb string
		na, a = number(a)
		nb, b = number(b)
		if len(na) != len(nb) {
			return len(na) - len(nb)
		}
		if c := strings.Compare(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// order is the weight of the first character of s: a tilde sorts before the end of the string,
// the end (and a digit) before letters, letters before everything else.
func order(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

// number cuts the leading digits off s, without leading zeros.
func number(s string) (n, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

// lineOf is the line of a package version, and whether it is a release candidate: "6.12.95-1" is
// of line "6.12", "7.3~rc7-1~exp1" is a candidate of "7.3". The line is empty when there is none.
func lineOf(version string) (line string, candidate bool) {
	_, upstream, _ := splitVersion(version)
	base, suffix, _ := strings.Cut(upstream, "~")
	parts := strings.SplitN(base, ".", 3)
	if len(parts) < 2 {
		return "", false
	}
	for _, p := range parts[:2] {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return "", false
		}
	}
	return parts[0] + "." + parts[1], strings.HasPrefix(suffix, "rc")
}
