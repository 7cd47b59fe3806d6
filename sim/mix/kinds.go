package mix

import (
	"fmt"
	"strings"
)

// tcp is a connection that opens, or is refused, or under way already; carries something; and is closed,
// reset, or left open. As its pieces are steps of their own, sequence numbers are written out.
func (d *drawer) tcp(c *conversation) {
	port := one(d, 22, 80, 443, 5432, 8080)
	client, server := 1, 1 // next numbers, relative to the first ones
	switch {
	case d.chance(1):
		c.script("tcp", port, "> SYN", "< RST,ACK")
		return
	case d.chance(1):
		c.script("tcp", port, "> SYN x2")
		return
	case d.chance(8):
		c.script("tcp", port, "> SYN", "< SYN,ACK", "> ACK")
	}
	for range d.rand.IntN(4) {
		request, reply := d.size(), d.size()
		again := one(d, "", "", "", " x2")
		c.script("tcp", port,
			fmt.Sprintf("> PSH,ACK %d seq=%d ack=%d%s", request, client, server, again),
			fmt.Sprintf("< PSH,ACK %d seq=%d ack=%d", reply, server, client+request),
			fmt.Sprintf("> ACK seq=%d ack=%d", client+request, server+reply))
		client, server = client+request, server+reply
	}
	d.end(c, port, client, server)
}

// end ends a TCP connection, or does not.
func (d *drawer) end(c *conversation, port, client, server int) {
	switch d.rand.IntN(4) {
	case 0, 1:
		c.script("tcp", port,
			fmt.Sprintf("> FIN,ACK seq=%d ack=%d", client, server),
			fmt.Sprintf("< FIN,ACK seq=%d ack=%d", server, client+1),
			fmt.Sprintf("> ACK seq=%d ack=%d", client+1, server+1))
	case 2:
		c.script("tcp", port, fmt.Sprintf("< RST,ACK seq=%d ack=%d", server, client))
	}
}

// udp is datagrams one way, or questions with answers.
func (d *drawer) udp(c *conversation) {
	port, replies := one(d, 123, 443, 514, 4500), d.chance(6)
	for range 1 + d.rand.IntN(3) {
		lines := []string{fmt.Sprintf("> %d", d.size())}
		if replies {
			lines = append(lines, fmt.Sprintf("< %d", d.size()))
		}
		c.script("udp", port, lines...)
	}
}

func (d *drawer) ping(c *conversation) {
	id := fmt.Sprintf("id: %d", d.id)
	reply := fmt.Sprintf("reply: %t", d.chance(8))
	for range 1 + d.rand.IntN(3) {
		c.step("ping", c.Client, c.Server, id, fmt.Sprintf("payload: %d", d.size()), reply)
	}
}

// dns is a question, and its answer unless it stays away.
func (d *drawer) dns(c *conversation) {
	question := fmt.Sprintf("id: %d, name: host%d.example, type: %s", d.id, d.rand.IntN(100), one(d, "A", "AAAA", "MX"))
	c.packet(false, 53, fmt.Sprintf("udp, {dns: {%s}}", question))
	if d.chance(8) {
		c.packet(true, 53, fmt.Sprintf("udp, {dns: {%s, response: true, rcode: %s}}", question, one(d, "NOERROR", "NXDOMAIN")))
	}
}

// sctp is an association that carries something and is shut down, aborted or left open.
func (d *drawer) sctp(c *conversation) {
	port := one(d, 2905, 3868, 36412)
	client, server := 1+d.rand.IntN(1<<31), 1+d.rand.IntN(1<<31)
	ask := func(chunks string) { c.packet(false, port, fmt.Sprintf("{sctp: {tag: %d}}, %s", server, chunks)) }
	answer := func(chunks string) { c.packet(true, port, fmt.Sprintf("{sctp: {tag: %d}}, %s", client, chunks)) }
	c.packet(false, port, fmt.Sprintf("sctp, {chunk: {type: init, tag: %d}}", client))
	answer(fmt.Sprintf("{chunk: {type: init-ack, tag: %d}}", server))
	ask("{chunk: cookie-echo}")
	answer("{chunk: cookie-ack}")
	for range d.rand.IntN(3) {
		ask(fmt.Sprintf("{chunk: data}, {payload: %d}", 1+d.size()))
		answer("{chunk: sack}")
	}
	switch d.rand.IntN(3) {
	case 0:
		ask("{chunk: shutdown}")
		answer("{chunk: shutdown-ack}")
		ask("{chunk: shutdown-complete}")
	case 1:
		answer("{chunk: abort}")
	}
}

// fragments is datagrams in pieces that come in any order, and not always all.
func (d *drawer) fragments(c *conversation) {
	const pieces, size = 4, 256
	layers := fmt.Sprintf("udp, {payload: %d}", pieces*size-8)
	if c.v4() {
		layers = fmt.Sprintf("{ipv4: {id: %d}}, %s", d.id, layers)
	}
	var order []string
	for _, n := range d.rand.Perm(pieces) {
		order = append(order, fmt.Sprint(n+1))
	}
	if d.chance(3) {
		order = order[1:]
	}
	c.packet(false, one(d, 2049, 6081+1), layers,
		fmt.Sprintf("fragments: {size: %d, order: [%s]}", size, strings.Join(order, ", ")))
}

// v4 tells whether the conversation is over IPv4.
func (c *conversation) v4() bool {
	return c.family == "ipv4" || c.family == "" && c.Families[0] == "ipv4"
}

// errors is datagrams that are answered by ICMP errors.
func (d *drawer) errors(c *conversation) {
	c.script("udp", one(d, 161, 33434), fmt.Sprintf("> %d", d.size()),
		"< unreachable "+one(d, "port", "host", "network", "admin"))
}
