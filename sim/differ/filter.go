package differ

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/weirnet/weir/agent"
)

// filters draws a filter that matches some of the packets.
func (d *drawer) filters() agent.Filters {
	f := agent.Filters{Default: pick(d, "", "accept", "reject")}
	for range 1 + d.IntN(5) {
		for {
			r := d.rule()
			if _, err := r.Compile(); err == nil {
				f.Rules = append(f.Rules, r)
				break // others contradict themselves
			}
		}
	}
	return f
}

func (d *drawer) rule() agent.FilterRule {
	r := agent.FilterRule{Action: pick(d, "accept", "reject"), Either: d.oneIn(3)}
	some := func(to *string, of ...string) {
		if d.oneIn(3) {
			*to = pick(d, of...)
		}
	}
	r.Family = pick[uint8](d, 0, 0, 0, 4, 6)
	some(&r.Protocol, "tcp", "udp", "icmp", "icmpv6", "sctp", "47", "0")
	some(&r.Src, d.prefix())
	some(&r.Dst, d.prefix())
	some(&r.SrcPort, d.portRange())
	some(&r.DstPort, d.portRange())
	some(&r.TCPFlags, "SYN/SYN|ACK", "none/SYN|ACK", "ACK/ACK|RST", "FIN/FIN")
	some(&r.ICMP, "3", "3/1", "8", "0/0", "128", "129", "1/4")
	return r
}

// prefix draws a prefix of one host, of some, or of all.
func (d *drawer) prefix() string {
	if d.oneIn(2) {
		return pick(d, fmt.Sprintf("10.0.0.%d", 1+d.IntN(d.hosts)), "10.0.0.2/31", "10.0.0.0/29", "0.0.0.0/0")
	}
	return pick(d, fmt.Sprintf("fd00::%x", 1+d.IntN(d.hosts)), "fd00::2/127", "fd00::/125", "::/0")
}

// portRange draws a port or a range.
func (d *drawer) portRange() string {
	from := max(1, d.port())
	if d.oneIn(2) {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, from+min(uint16(d.IntN(600)), 0xffff-from))
}

// filters are the case's filters on one line, as in a scenario; "" when there are none.
func (c *Case) filters() string {
	if c.Filters.Default == "" && len(c.Filters.Rules) == 0 {
		return ""
	}
	text, err := yaml.MarshalWithOptions(c.Filters, yaml.Flow(true))
	if err != nil {
		return "" // cannot happen: it is made of strings
	}
	return strings.TrimSpace(string(text))
}

func parseFilter(text string) (f agent.Filters, err error) {
	if err = yaml.UnmarshalWithOptions([]byte(text), &f, yaml.Strict()); err == nil {
		_, err = f.Compile()
	}
	return f, err
}
