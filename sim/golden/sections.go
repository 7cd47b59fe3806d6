package golden

import "strings"

// raw is what a record's key says before it is known whether there are ports.
type raw struct {
	first, second string
	at            [2]*node
}

// end is the setter for an endpoint, read when the protocol is known.
func (d *decoder) end(r *raw, i int) setter {
	return func(n *node) error {
		s, err := d.scalar(n)
		if err != nil {
			return err
		}
		if i == 0 {
			r.first = s
		} else {
			r.second = s
		}
		r.at[i] = n
		return nil
	}
}

// ends reads both endpoints and checks the ICMP part of the tuple.
func (d *decoder) ends(n *node, r raw, proto, cites, icmp string) (a, b Endpoint, err error) {
	ports := hasPorts(proto, cites)
	if a, err = parseEndpoint(r.first, ports); err != nil {
		return a, b, d.fail(r.at[0], "%v", err)
	}
	if b, err = parseEndpoint(r.second, ports); err != nil {
		return a, b, d.fail(r.at[1], "%v", err)
	}
	if err = checkICMP(proto, cites, icmp); err != nil {
		return a, b, d.fail(n, "%v", err)
	}
	return a, b, nil
}

// freePort tells whether a port may be free, by the names that stand for it.
func (d *decoder) freePort(n *node, e Endpoint, names ...string) error {
	if e.Port == star && !d.isFree(names) {
		return d.notFree(n)
	}
	return nil
}

// flows reads the section of flows, or the digest in its place.
func (d *decoder) flows(n *node, g *Golden) (err error) {
	if n.isMap {
		g.FlowDigest, err = d.digest(n)
		return err
	}
	return d.list(n, "flows", func(n *node) error {
		f, err := d.flow(n)
		if err != nil {
			return err
		}
		if f.Initiator == "" {
			f.Initiator = impliedInitiator(g.Flows, &f)
		}
		if err := d.flowPorts(n, &f); err != nil {
			return err
		}
		g.Flows = append(g.Flows, f)
		return nil
	})
}

// list gives each item of a list to read.
func (d *decoder) list(n *node, what string, read setter) error {
	if !n.isList {
		return d.fail(n, "%s is %s, not a list", what, n.what())
	}
	for _, item := range n.items {
		if err := read(item); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) flow(n *node) (Flow, error) {
	var f Flow
	var ends raw
	var before, after *node
	err := d.fields(n, "a flow", map[string]setter{
		"src":        d.end(&ends, 0),
		"dst":        d.end(&ends, 1),
		"proto":      d.text(&f.Proto, isProtocol),
		"cites":      d.text(&f.Cites, isProtocol),
		"icmp":       d.text(&f.ICMP, anyText),
		"zone":       d.zone(&f.Zone),
		"packets":    d.number(&f.Packets, "packets"),
		"bytes":      d.number(&f.Bytes, "bytes"),
		"flags":      d.text(&f.Flags, isFlags, "flags"),
		"end":        d.text(&f.End, isEnd, "end"),
		"state":      d.text(&f.State, isState, "state"),
		"icmp_error": d.text(&f.ICMPError, checkTypeCode),
		"nat_before": func(n *node) error { before = n; return nil },
		"nat_after":  func(n *node) error { after = n; return nil },
		"from":       d.text(&f.Who.From, anyText),
		"to":         d.text(&f.Who.To, anyText),
		"service":    d.text(&f.Who.Service, anyText),
		"class":      d.text(&f.Who.Class, isClass),
		"unlabelled": d.text(&f.Who.Unlabelled, isUnlabelled),
		"remarks":    d.text(&f.Who.Remarks, isRemarks),
		"initiator":  d.text(&f.Initiator, isInitiator),
		"seen":       d.seen(&f.Seen),
		"rtt":        d.text(&f.RTT, isMeasured),
		"handshake":  d.text(&f.Handshake, anyText),
		"lookups":    d.text(&f.Lookups, anyText),
	}, "src", "dst", "proto", "packets", "bytes", "end", "seen")
	if err != nil {
		return f, err
	}
	if f.State == "" {
		if f.State = impliedState(f.End); f.State == "" {
			return f, d.fail(n, "a flow that ends %s has no state", f.End)
		}
	}
	if f.Src, f.Dst, err = d.ends(n, ends, f.Proto, f.Cites, f.ICMP); err != nil {
		return f, err
	}
	if f.NATBefore, err = d.other(before, &f); err != nil {
		return f, err
	}
	f.NATAfter, err = d.other(after, &f)
	return f, err
}

// other reads the ends that a flow has on another side of an address translation; there may be none.
func (d *decoder) other(n *node, f *Flow) (e Ends, err error) {
	if n == nil {
		return e, nil
	}
	s, err := d.scalar(n)
	if err != nil {
		return e, err
	}
	src, dst, ok := strings.Cut(s, between)
	if !ok {
		return e, d.fail(n, "%q is not two endpoints, like client:40000 > server:80", s)
	}
	ports := hasPorts(f.Proto, f.Cites)
	if e.Src, err = parseEndpoint(src, ports); err == nil {
		e.Dst, err = parseEndpoint(dst, ports)
	}
	if err != nil {
		return e, d.fail(n, "%v", err)
	}
	return e, nil
}

// flowPorts checks that the ports that are free may be.
func (d *decoder) flowPorts(n *node, f *Flow) error {
	src, dst := "client_port", "server_port"
	if f.Initiator == InitiatorDst {
		src, dst = dst, src
	}
	for _, e := range []Ends{{f.Src, f.Dst}, f.NATBefore, f.NATAfter} {
		if err := d.freePort(n, e.Src, "src_port", src); err != nil {
			return err
		}
		if err := d.freePort(n, e.Dst, "dst_port", dst); err != nil {
			return err
		}
	}
	return nil
}

// seen is the setter for a list of hooks.
func (d *decoder) seen(to *[]string) setter {
	return func(n *node) error {
		return d.list(n, "seen", func(n *node) error {
			var hook string
			err := d.text(&hook, isHook)(n)
			*to = append(*to, hook)
			return err
		})
	}
}

// connections reads the section of connections, or the digest in its place.
func (d *decoder) connections(n *node, g *Golden) (err error) {
	if n.isMap {
		g.ConnectionDigest, err = d.digest(n)
		return err
	}
	return d.list(n, "connections", func(n *node) error {
		c, err := d.connection(n)
		g.Connections = append(g.Connections, c)
		return err
	})
}

func (d *decoder) connection(n *node) (Connection, error) {
	var c Connection
	var named, unnamed raw
	var expired string
	err := d.fields(n, "a connection", map[string]setter{
		"client":     d.end(&named, 0),
		"server":     d.end(&named, 1),
		"a":          d.end(&unnamed, 0),
		"b":          d.end(&unnamed, 1),
		"proto":      d.text(&c.Proto, isProtocol),
		"cites":      d.text(&c.Cites, isProtocol),
		"icmp":       d.text(&c.ICMP, anyText),
		"zone":       d.zone(&c.Zone),
		"state":      d.text(&c.State, isState, "state"),
		"forward":    d.number(&c.Forward, "packets"),
		"reverse":    d.number(&c.Reverse, "packets"),
		"icmp_error": d.text(&c.ICMPError, checkTypeCode),
		"left":       d.text(&c.Left, isDuration, "left"),
		"expired":    d.text(&expired, isTrue),
	}, "proto", "state", "forward", "reverse")
	if err != nil {
		return c, err
	}
	c.Known, c.Expired = named.at[0] != nil, expired != ""
	ends, other := named, unnamed
	if !c.Known {
		ends, other = unnamed, named
	}
	switch {
	case ends.at[0] == nil || ends.at[1] == nil || other.at[0] != nil || other.at[1] != nil:
		return c, d.fail(n, "a connection has either client and server, or a and b")
	case c.Expired == (c.Left != ""):
		return c, d.fail(n, "a connection has either some of its lifetime left, or expired: true")
	}
	if c.Client, c.Server, err = d.ends(n, ends, c.Proto, c.Cites, c.ICMP); err != nil {
		return c, err
	}
	if err := d.freePort(n, c.Client, "src_port", "client_port"); err != nil {
		return c, err
	}
	return c, d.freePort(n, c.Server, "dst_port", "server_port")
}

// digest reads the digest that stands for a section.
func (d *decoder) digest(n *node) (*Digest, error) {
	var g Digest
	var records Number
	err := d.fields(n, "a digest", map[string]setter{
		"records": d.number(&records),
		"packets": d.number(&g.Packets, "packets"),
		"bytes":   d.number(&g.Bytes, "bytes"),
		"sha256":  d.text(&g.SHA256, isSHA256),
	}, "records", "packets", "bytes", "sha256")
	g.Records = records.Value
	return &g, err
}

// labels reads the labels of each name.
func (d *decoder) labels(n *node, g *Golden) error {
	if !n.isMap {
		return d.fail(n, "labels is %s, not a mapping", n.what())
	}
	g.Labels = map[string]map[string]string{}
	for _, name := range n.pairs {
		if !name.value.isMap {
			return d.fail(name.value, "the labels of %s are %s, not a mapping", name.key.text,
				name.value.what())
		}
		one := map[string]string{}
		for _, p := range name.value.pairs {
			var value string
			if err := d.text(&value, anyText)(p.value); err != nil {
				return err
			}
			one[p.key.text] = value
		}
		g.Labels[name.key.text] = one
	}
	return nil
}

// counters reads the counters of each hook.
func (d *decoder) counters(n *node, g *Golden) error {
	return d.list(n, "counters", func(n *node) error {
		var c HookCounters
		err := d.fields(n, "counters", map[string]setter{
			"hook":      d.text(&c.Hook, isHook),
			"seen":      d.traffic(&c.Seen),
			"accounted": d.traffic(&c.Accounted),
			"observed":  d.traffic(&c.Observed),
			"left_out":  d.byReason(&c.LeftOut, "left_out", isLeftOut),
			"lost":      d.byReason(&c.Lost, "lost", isReason),
		}, "hook", "seen", "accounted")
		g.Counters = append(g.Counters, c)
		return err
	})
}

// byReason is the setter for what one hook has counted by reason.
func (d *decoder) byReason(to *map[string]Traffic, what string, check func(string) error) setter {
	return func(n *node) error {
		if !n.isMap {
			return d.fail(n, "%s is %s, not a mapping", what, n.what())
		}
		*to = map[string]Traffic{}
		for _, p := range n.pairs {
			if err := check(p.key.text); err != nil {
				return d.fail(p.key, "%v", err)
			}
			var t Traffic
			if err := d.traffic(&t)(p.value); err != nil {
				return err
			}
			(*to)[p.key.text] = t
		}
		return nil
	}
}
