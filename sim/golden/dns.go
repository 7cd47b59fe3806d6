package golden

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/result"
)

// DNS is a DNS transaction, or how many messages are not told for one reason.
type DNS struct {
	Outcome        string
	Reason         string // with Messages; all below is "" or 0 then
	Messages       uint64
	Client, Server Endpoint
	Proto          string
	Zone           uint16
	ID             uint64
	Name, Type     string
	Rcode          string
	Truncated      bool
	Latency        string // a duration
	Repeats        uint64
}

// TakeDNS brings an agent's DNS records into canonical form. The differences are what is wrong
// with them as such: a number that is missing, or comes twice.
func TakeDNS(records []flow.DNS, names *Names) ([]DNS, []result.Difference) {
	var differences []result.Difference
	next := map[string]uint64{}
	for _, r := range records {
		next[r.Boot]++
		if r.Sequence != next[r.Boot] {
			differences = append(differences, result.Difference{Section: "dns", Against: "invariant",
				Kind: kindDiffers, Record: canonicalDNS(&r, names).record().line(),
				Fields: []result.Field{{Name: "sequence", Want: strconv.FormatUint(next[r.Boot], 10),
					Got: strconv.FormatUint(r.Sequence, 10)}}})
			next[r.Boot] = r.Sequence
		}
	}
	return ModelDNS(records, names), differences
}

// ModelDNS brings the reference model's DNS records into canonical form. Messages of one reason
// are added up.
func ModelDNS(records []flow.DNS, names *Names) []DNS {
	var all []DNS
	sums := map[[2]string]int{}
	for i := range records {
		r := canonicalDNS(&records[i], names)
		if r.Reason == "" {
			all = append(all, r)
			continue
		}
		at, ok := sums[[2]string{r.Outcome, r.Reason}]
		if !ok {
			at = len(all)
			sums[[2]string{r.Outcome, r.Reason}] = at
			all = append(all, r)
			continue
		}
		all[at].Messages += r.Messages
	}
	return sortDNS(all)
}

func canonicalDNS(r *flow.DNS, names *Names) DNS {
	d := DNS{Outcome: r.Outcome, Reason: r.Reason, Messages: r.Messages}
	if r.Reason != "" {
		return d
	}
	d.Client = names.endpoint(r.Client, r.ClientPort, true)
	d.Server = names.endpoint(r.Server, r.ServerPort, true)
	d.Proto, d.Zone, d.ID = Protocol(r.Protocol), r.Zone, uint64(r.ID)
	d.Name, d.Type, d.Rcode = r.Name, r.Type, r.Rcode
	d.Truncated, d.Repeats = r.Truncated, uint64(r.Repeats)
	if r.Latency != nil {
		d.Latency = time.Duration(*r.Latency).String()
	}
	return d
}

// record returns the written form.
func (d DNS) record() record {
	var r record
	r.text("outcome", d.Outcome)
	if d.Reason != "" {
		r.text("reason", d.Reason)
		r.identity = r.line()
		r.number("messages", N(d.Messages))
		return r
	}
	r.text("client", d.Client.String())
	r.text("server", d.Server.String())
	r.text("proto", d.Proto)
	r.zone(d.Zone)
	r.number("id", N(d.ID))
	r.text("name", d.Name)
	r.text("type", d.Type)
	r.identity = r.line()
	r.text("rcode", d.Rcode)
	if d.Truncated {
		r.columns = append(r.columns, column{key: "truncated", value: "true", raw: true})
	}
	r.text("latency", d.Latency)
	if d.Repeats > 0 {
		r.number("repeats", N(d.Repeats))
	}
	return r
}

func dnsRecords(all []DNS) []record {
	records := make([]record, 0, len(all))
	for _, d := range all {
		records = append(records, d.record())
	}
	return records
}

// sortDNS brings DNS records into the order of files.
func sortDNS(all []DNS) []DNS {
	slices.SortFunc(all, func(a, b DNS) int {
		return cmp.Or(a.Client.compare(b.Client), a.Server.compare(b.Server), cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.record().line(), b.record().line()))
	})
	return all
}

// dns reads the section of DNS records.
func (d *decoder) dns(n *node, g *Golden) error {
	return d.list(n, "dns", func(n *node) error {
		one, err := d.oneDNS(n)
		g.DNS = append(g.DNS, one)
		return err
	})
}

func (d *decoder) oneDNS(n *node) (DNS, error) {
	var one DNS
	var ends raw
	var truncated string
	var messages, id, repeats Number
	err := d.fields(n, "a DNS record", map[string]setter{
		"outcome":   d.text(&one.Outcome, isOutcome),
		"reason":    d.text(&one.Reason, anyText),
		"messages":  d.number(&messages),
		"client":    d.end(&ends, 0),
		"server":    d.end(&ends, 1),
		"proto":     d.text(&one.Proto, isProtocol),
		"zone":      d.zone(&one.Zone),
		"id":        d.number(&id),
		"name":      d.text(&one.Name, anyText),
		"type":      d.text(&one.Type, anyText),
		"rcode":     d.text(&one.Rcode, anyText),
		"truncated": d.text(&truncated, isTrue),
		"latency":   d.text(&one.Latency, isDuration),
		"repeats":   d.number(&repeats),
	}, "outcome")
	if err != nil {
		return one, err
	}
	one.Truncated = truncated != ""
	one.Messages, one.ID, one.Repeats = messages.Value, id.Value, repeats.Value
	if (one.Reason == "") != (ends.at[0] != nil && ends.at[1] != nil && one.Proto != "") {
		return one, d.fail(n, "a DNS record has either client, server and proto, or a reason")
	}
	if one.Reason != "" {
		return one, nil
	}
	if one.Client, one.Server, err = d.ends(n, ends, one.Proto, "", ""); err != nil {
		return one, err
	}
	if err := d.freePort(n, one.Client, "src_port", "client_port"); err != nil {
		return one, err
	}
	return one, d.freePort(n, one.Server, "dst_port", "server_port")
}

func isOutcome(s string) error {
	known := []string{flow.DNSAnswered, flow.DNSUnanswered, flow.DNSOpen, flow.DNSUnasked, flow.DNSUnreadable,
		flow.DNSLost}
	if !slices.Contains(known, s) {
		return fmt.Errorf("%q is none of %s", s, strings.Join(known, ", "))
	}
	return nil
}

func (d *DNS) free(names []string) {
	for _, name := range names {
		switch name {
		case "src_port", "client_port":
			d.Client.free()
		case "dst_port", "server_port":
			d.Server.free()
		}
	}
}
