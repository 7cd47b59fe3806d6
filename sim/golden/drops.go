package golden

import (
	"cmp"
	"slices"

	"github.com/weirnet/weir/agent/flow"
)

// Drop is packets that the kernel has dropped on one host for one reason.
type Drop struct {
	Host     string
	Src, Dst Endpoint
	Proto    string
	Reason   string
	Packets  Number
}

// Drops brings an agent's drop records into canonical form and adds them up. Hosts are those of the
// scenario, by the inodes of their network namespaces: what is dropped elsewhere is none of its business.
func Drops(records []flow.Drop, names *Names, hosts map[uint64]string) []Drop {
	sums := map[Drop]uint64{}
	for _, r := range records {
		host, ok := hosts[r.NetNS]
		if !ok {
			continue
		}
		proto := Protocol(r.Protocol)
		ports := hasPorts(proto, "")
		sums[Drop{Host: host, Proto: proto, Reason: r.Reason, Src: names.endpoint(r.Src, r.SrcPort, ports),
			Dst: names.endpoint(r.Dst, r.DstPort, ports)}] += r.Packets
	}
	all := make([]Drop, 0, len(sums))
	for d, packets := range sums {
		d.Packets = N(packets)
		all = append(all, d)
	}
	return sortDrops(all)
}

// record returns the written form.
func (d Drop) record() record {
	var r record
	r.text("host", d.Host)
	r.text("src", d.Src.String())
	r.text("dst", d.Dst.String())
	r.text("proto", d.Proto)
	r.identity = r.line()
	r.text("reason", d.Reason)
	r.number("packets", d.Packets)
	return r
}

func dropRecords(all []Drop) []record {
	records := make([]record, 0, len(all))
	for _, d := range all {
		records = append(records, d.record())
	}
	return records
}

// sortDrops brings drops into the order of files.
func sortDrops(all []Drop) []Drop {
	slices.SortFunc(all, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), a.Src.compare(b.Src), a.Dst.compare(b.Dst),
			cmp.Compare(a.record().line(), b.record().line()))
	})
	return all
}

// drops reads the section of drops.
func (d *decoder) drops(n *node, g *Golden) error {
	return d.list(n, "drops", func(n *node) error {
		var one Drop
		var ends raw
		err := d.fields(n, "a drop", map[string]setter{
			"host":    d.text(&one.Host, anyText),
			"src":     d.end(&ends, 0),
			"dst":     d.end(&ends, 1),
			"proto":   d.text(&one.Proto, isProtocol),
			"reason":  d.text(&one.Reason, anyText),
			"packets": d.number(&one.Packets, "packets"),
		}, "host", "src", "dst", "proto", "reason", "packets")
		if err != nil {
			return err
		}
		if one.Src, one.Dst, err = d.ends(n, ends, one.Proto, "", ""); err != nil {
			return err
		}
		if err := d.freePort(n, one.Src, "src_port"); err != nil {
			return err
		}
		if err := d.freePort(n, one.Dst, "dst_port"); err != nil {
			return err
		}
		g.Drops = append(g.Drops, one)
		return nil
	})
}

func (d *Drop) free(names []string) {
	for _, name := range names {
		switch name {
		case "packets":
			d.Packets = Number{Free: true}
		case "src_port":
			d.Src.free()
		case "dst_port":
			d.Dst.free()
		}
	}
}
