package golden

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/conntrack"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

// Decode reads a golden file. It is strict: an unknown key, a value that Encode would not write
// and a "*" for a value that is not named in free are errors of type *Error with their place.
func Decode(file string, data []byte, free ...string) (*Golden, error) {
	r := &reader{file: file}
	root, err := r.parse(data)
	if err != nil {
		return nil, err
	}
	g := &Golden{}
	d := decoder{reader: r, free: free}
	err = d.fields(root, "the file", map[string]setter{
		"flows":       func(n *node) error { return d.flows(n, g) },
		"connections": func(n *node) error { return d.connections(n, g) },
		"labels":      func(n *node) error { return d.labels(n, g) },
		"counters":    func(n *node) error { return d.counters(n, g) },
		"dns":         func(n *node) error { return d.dns(n, g) },
		"drops":       func(n *node) error { return d.drops(n, g) },
	}, "flows", "connections")
	if err != nil {
		return nil, err
	}
	g.Flows, g.Connections = sortFlows(g.Flows), sortConnections(g.Connections)
	g.Counters = sortCounters(g.Counters)
	g.DNS, g.Drops = sortDNS(g.DNS), sortDrops(g.Drops)
	return g, nil
}

// setter takes the value of one key.
type setter func(*node) error

type decoder struct {
	*reader
	free []string
}

// fields gives each value of a mapping to the setter of its key. Setters run in the order of the
// file. Keys without a setter are an error, and so are required keys that are not there.
func (d *decoder) fields(n *node, what string, set map[string]setter, required ...string) error {
	if !n.isMap {
		return d.fail(n, "%s is %s, not a mapping", what, n.what())
	}
	var keys []string
	for _, p := range n.pairs {
		s, ok := set[p.key.text]
		if !ok {
			return d.fail(p.key, "unknown key %q in %s: known are %s", p.key.text, what,
				sortedKeys(set))
		}
		if err := s(p.value); err != nil {
			return err
		}
		keys = append(keys, p.key.text)
	}
	for _, key := range required {
		if !slices.Contains(keys, key) {
			return d.fail(n, "%s has no %s", what, key)
		}
	}
	return nil
}

func sortedKeys(set map[string]setter) string {
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return strings.Join(keys, ", ")
}

// scalar returns a node's text. A "*" must be free by one of the names.
func (d *decoder) scalar(n *node, free ...string) (string, error) {
	if n.isMap || n.isList || n.isNull {
		return "", d.fail(n, "%s where a value belongs", n.what())
	}
	if n.text == star && !d.isFree(free) {
		return "", d.notFree(n)
	}
	return n.text, nil
}

func (d *decoder) isFree(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.Contains(d.free, name)
	})
}

func (d *decoder) notFree(n *node) error {
	return d.fail(n, `%s: the scenario does not leave this value free (expect: free)`, n.what())
}

// text is the setter for a text that must pass the check.
func (d *decoder) text(to *string, check func(string) error, free ...string) setter {
	return func(n *node) error {
		s, err := d.scalar(n, free...)
		if err != nil {
			return err
		}
		if s != star {
			if err := check(s); err != nil {
				return d.fail(n, "%v", err)
			}
		}
		*to = s
		return nil
	}
}

// number is the setter for a decimal number.
func (d *decoder) number(to *Number, free ...string) setter {
	return func(n *node) error {
		s, err := d.scalar(n, free...)
		if err != nil {
			return err
		}
		*to, err = parseNumber(s)
		if err != nil {
			return d.fail(n, "%v", err)
		}
		return nil
	}
}

func parseNumber(s string) (Number, error) {
	if s == star {
		return Number{Free: true}, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(v, 10) != s {
		return Number{}, fmt.Errorf("%q is no count", s)
	}
	return N(v), nil
}

// traffic is the setter for "packets/bytes".
func (d *decoder) traffic(to *Traffic) setter {
	return func(n *node) error {
		s, err := d.scalar(n)
		if err != nil {
			return err
		}
		packets, bytes, _ := strings.Cut(s, "/")
		if to.Packets, err = parseNumber(packets); err != nil {
			return d.fail(n, "%q is not packets/bytes", s)
		}
		if to.Bytes, err = parseNumber(bytes); err != nil {
			return d.fail(n, "%q is not packets/bytes", s)
		}
		if to.Packets.Free && !d.isFree([]string{"packets"}) ||
			to.Bytes.Free && !d.isFree([]string{"bytes"}) {
			return d.notFree(n)
		}
		return nil
	}
}

// zone is the setter for a zone.
func (d *decoder) zone(to *uint16) setter {
	return func(n *node) error {
		v, err := strconv.ParseUint(n.text, 10, 16)
		if err != nil || v == 0 || strconv.FormatUint(v, 10) != n.text {
			return d.fail(n, "%s is no zone from 1 to 65535", n.what())
		}
		*to = uint16(v)
		return nil
	}
}

// The checks of texts.

func anyText(s string) error { return nil }

func isHook(s string) error {
	place, direction, ok := strings.Cut(s, " ")
	if d := flow.Direction(direction); !ok || place == "" || d != flow.Ingress && d != flow.Egress {
		return fmt.Errorf("%q is no hook, like \"host/eth0 ingress\"", s)
	}
	return nil
}

func isProtocol(s string) error {
	_, err := parseProtocol(s)
	return err
}

func isFlags(s string) error {
	f, err := flow.ParseTCPFlags(s)
	if err == nil && (f == 0 || f.String() != s) {
		err = fmt.Errorf("%q are no TCP flags in their order, like %q", s, "FIN|SYN|ACK")
	}
	return err
}

func isEnd(s string) error { return new(flow.EndReason).UnmarshalText([]byte(s)) }

func isState(s string) error {
	for _, known := range conntrack.States() {
		if known.String() == s {
			return nil
		}
	}
	return fmt.Errorf("%q is no state", s)
}

func isInitiator(s string) error {
	if s != InitiatorSrc && s != InitiatorDst && s != InitiatorUnknown {
		return fmt.Errorf("%q is none of src, dst, unknown", s)
	}
	return nil
}

func isTrue(s string) error {
	if s != "true" {
		return fmt.Errorf("%q: only true is written", s)
	}
	return nil
}

func isMeasured(s string) error {
	if s != measured {
		return fmt.Errorf("%q: only %s is written", s, measured)
	}
	return nil
}

func isDuration(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v.String() != s {
		return fmt.Errorf("%q is no duration, like 1m50s", s)
	}
	return nil
}

func isReason(s string) error {
	if slices.Contains(model.Reasons(), model.Reason(s)) {
		return nil
	}
	return fmt.Errorf("%q is no reason for a loss", s)
}

func isLeftOut(s string) error {
	if slices.Contains(model.LeftOutReasons(), model.Reason(s)) {
		return nil
	}
	return fmt.Errorf("%q is no reason to leave a packet out", s)
}

func isSHA256(s string) error {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return fmt.Errorf("%q is no SHA-256 sum", s)
	}
	return nil
}
