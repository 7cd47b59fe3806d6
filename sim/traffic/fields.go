package traffic

import (
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weirnet/weir/agent/flow"
)

// values holds a layer's fields as read from the file, each in its own type: uint64, bool,
// []byte, netip.Addr, [6]byte or string.
type values map[string]any

// has tells whether the file gave the field.
func (v values) has(name string) bool { _, ok := v[name]; return ok }

// get returns the field's value, or def when the file has none.
func get[T any](v values, name string, def T) T {
	if x, ok := v[name].(T); ok {
		return x
	}
	return def
}

// number returns a numeric field in the type of its default.
func number[T ~uint8 | ~uint16 | ~uint32 | ~int](v values, name string, def T) T {
	return T(get(v, name, uint64(def)))
}

// opt is a value that explicit fields may set and that is derived otherwise.
type opt[T any] struct {
	value T
	set   bool
}

// or returns the value, or def when it is not set.
func (o opt[T]) or(def T) T {
	if o.set {
		return o.value
	}
	return def
}

// given reads a numeric field as an opt.
func given[T ~uint8 | ~uint16 | ~uint32](v values, name string) opt[T] {
	return opt[T]{value: number(v, name, T(0)), set: v.has(name)}
}

// convert turns a value of the file into a field's type.
type convert func(any) (any, error)

// bits is a number of n bits; words are names it may have.
func bits(n int, words map[string]uint64) convert {
	limit := uint64(math.MaxUint64) >> (64 - n)
	return func(x any) (any, error) {
		v, err := integer(x, words)
		if err != nil {
			return nil, err
		}
		if v > limit {
			return nil, fmt.Errorf("%v is more than %d, the largest number of %d bits", x, limit, n)
		}
		return v, nil
	}
}

// integer accepts every shape in which decoders of YAML and JSON deliver whole numbers.
func integer(x any, words map[string]uint64) (uint64, error) {
	switch v := x.(type) {
	case uint64:
		return v, nil
	case int:
		return nonNegative(int64(v))
	case int64:
		return nonNegative(v)
	case float64:
		if v < 0 || v > math.MaxUint32 || v != math.Trunc(v) {
			return 0, fmt.Errorf("%v is not a whole number", v)
		}
		return uint64(v), nil
	case string:
		if n, ok := words[v]; ok {
			return n, nil
		}
		if n, err := strconv.ParseUint(v, 0, 64); err == nil {
			return n, nil
		}
		return 0, fmt.Errorf("%q is not a number%s", v, orWords(v, words))
	}
	return 0, fmt.Errorf("%v is not a number", x)
}

func nonNegative(v int64) (uint64, error) {
	if v < 0 {
		return 0, fmt.Errorf("%d is negative", v)
	}
	return uint64(v), nil
}

func orWords(given string, words map[string]uint64) string {
	if len(words) == 0 {
		return ""
	}
	return " and not a known word" + suggest(given, sortedKeys(words))
}

// tcpFlags reads flag names or a number.
func tcpFlags(x any) (any, error) {
	if s, ok := x.(string); ok {
		if f, err := flow.ParseTCPFlags(s); err == nil {
			return uint64(f), nil
		} else if _, numeric := strconv.ParseUint(s, 0, 8); numeric != nil {
			return nil, err
		}
	}
	return bits(8, nil)(x)
}

// ipFlags reads the three flags of IPv4: "DF", "MF", "evil", joined by "|", or a number.
func ipFlags(x any) (any, error) {
	s, ok := x.(string)
	if !ok {
		return bits(3, nil)(x)
	}
	words := map[string]uint64{"MF": 1, "DF": 2, "evil": 4}
	var all uint64
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == '|' || r == ',' }) {
		v, err := bits(3, words)(strings.TrimSpace(w))
		if err != nil {
			return nil, err
		}
		all |= v.(uint64)
	}
	return all, nil
}

func boolean(x any) (any, error) {
	if v, ok := x.(bool); ok {
		return v, nil
	}
	return nil, fmt.Errorf("%v is neither true nor false", x)
}

func text(x any) (any, error) {
	if v, ok := x.(string); ok && v != "" {
		return v, nil
	}
	return nil, fmt.Errorf("%v is not a name", x)
}

func hardware(x any) (any, error) {
	s, _ := x.(string)
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		return nil, fmt.Errorf("%v is not a MAC address", x)
	}
	return [6]byte(m), nil
}

// address reads an address of one family.
func address(v6 bool) convert {
	name := map[bool]string{false: "an IPv4", true: "an IPv6"}[v6]
	return func(x any) (any, error) {
		s, _ := x.(string)
		a, err := netip.ParseAddr(s)
		if err != nil || a.Is6() != v6 || a.Zone() != "" {
			return nil, fmt.Errorf("%v is not %s address", x, name)
		}
		return a, nil
	}
}

// maxBytes is the most that a field of bytes may hold; more fits into no frame.
const maxBytes = 65535

// hexBytes reads hexadecimal digits; spaces, colons and line ends may separate them.
func hexBytes(x any) (any, error) {
	s, ok := x.(string)
	if !ok {
		return nil, fmt.Errorf("%v is not a string of hexadecimal digits: quote it", x)
	}
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", ":", "", "\n", "").Replace(s))
	if err != nil {
		return nil, fmt.Errorf("%.40q is not hexadecimal: %w", s, err)
	}
	if len(b) > maxBytes {
		return nil, fmt.Errorf("%d bytes are more than a frame can hold", len(b))
	}
	return b, nil
}
