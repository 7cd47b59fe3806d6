package golden

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

const header = "# Written by --update; read it, do not edit it. Traffic is " +
	"packets/bytes. A flow is of its\n" +
	"# initiator, and the line below it of the other side, where " +
	"\"initiator\" does not say otherwise.\n"

// WrittenOut is the number of records up to which a section is written out. People do not read
// longer ones: a digest stands for them, and the reference model shows what differs.
const WrittenOut = 1000

// Digest stands for a section with many records.
type Digest struct {
	Records uint64
	Packets Number // the sum over all records
	Bytes   Number // 0 for connections
	SHA256  string // of the records' lines, sorted, each with its newline
}

// record returns the digest's written form.
func (d Digest) record() record {
	var r record
	r.identity = "digest"
	r.number("records", N(d.Records))
	r.number("packets", d.Packets)
	r.number("bytes", d.Bytes)
	r.text("sha256", d.SHA256)
	return r
}

// digest makes a digest of records.
func digest(records []record) Digest {
	d := Digest{Records: uint64(len(records))}
	lines := make([]string, 0, len(records))
	for _, r := range records {
		lines = append(lines, r.line()+"\n")
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	d.SHA256 = hex.EncodeToString(sum[:])
	return d
}

func (n *Number) add(m Number) {
	n.Value += m.Value
	if n.Free = n.Free || m.Free; n.Free {
		n.Value = 0
	}
}

func digestFlows(flows []Flow) Digest {
	d := digest(flowRecords(flows))
	for _, f := range flows {
		d.Packets.add(f.Packets)
		d.Bytes.add(f.Bytes)
	}
	return d
}

func digestConnections(all []Connection) Digest {
	d := digest(connectionRecords(all))
	for _, c := range all {
		d.Packets.add(c.Forward)
		d.Packets.add(c.Reverse)
	}
	return d
}

func flowRecords(flows []Flow) []record {
	records := make([]record, 0, len(flows))
	for _, f := range flows {
		records = append(records, f.record())
	}
	return records
}

func connectionRecords(all []Connection) []record {
	records := make([]record, 0, len(all))
	for _, c := range all {
		records = append(records, c.record())
	}
	return records
}

// Encode writes the golden file. The same content gives the same bytes, in whatever order the
// records of g are. It does not change g.
func Encode(g *Golden) []byte {
	var b bytes.Buffer
	b.WriteString(header)
	flows := sortFlows(slices.Clone(g.Flows))
	switch {
	case g.FlowDigest != nil:
		section(&b, "flows", *g.FlowDigest)
	case len(flows) > WrittenOut:
		section(&b, "flows", digestFlows(flows))
	default:
		records(&b, "flows", inFile(flows), 3)
	}
	connections := sortConnections(slices.Clone(g.Connections))
	switch {
	case g.ConnectionDigest != nil:
		section(&b, "connections", *g.ConnectionDigest)
	case len(connections) > WrittenOut:
		section(&b, "connections", digestConnections(connections))
	default:
		records(&b, "connections", connectionRecords(connections), 3)
	}
	labels(&b, g.Labels)
	if len(g.Counters) > 0 {
		records(&b, "counters", counterRecords(sortCounters(slices.Clone(g.Counters))), 1)
	}
	if len(g.DNS) > 0 {
		records(&b, "dns", dnsRecords(sortDNS(slices.Clone(g.DNS))), 1)
	}
	if len(g.Drops) > 0 {
		records(&b, "drops", dropRecords(sortDrops(slices.Clone(g.Drops))), 1)
	}
	return b.Bytes()
}

func counterRecords(all []HookCounters) []record {
	records := make([]record, 0, len(all))
	for _, c := range all {
		records = append(records, c.record())
	}
	return records
}

// inFile returns the records of sorted flows with the initiator left out where the line before
// tells it.
func inFile(flows []Flow) []record {
	out := make([]record, 0, len(flows))
	for i, f := range flows {
		r := f.record()
		r.columns = slices.DeleteFunc(r.columns, func(c column) bool {
			return c.key == "initiator"
		})
		if f.Initiator != impliedInitiator(flows[:i], &f) {
			r.text("initiator", f.Initiator)
		}
		out = append(out, r)
	}
	return out
}

// impliedInitiator is what a line says that does not name the initiator: its source, or its
// destination if the line before is the initiator's direction of the same tuple.
func impliedInitiator(before []Flow, f *Flow) string {
	if len(before) == 0 {
		return InitiatorSrc
	}
	p := &before[len(before)-1]
	if p.Initiator == InitiatorSrc && p.Src == f.Dst && p.Dst == f.Src && p.Proto == f.Proto &&
		p.Cites == f.Cites && p.ICMP == f.ICMP && p.Zone == f.Zone {
		return InitiatorDst
	}
	return InitiatorSrc
}

// section writes a digest in the place of a section's records.
func section(b *bytes.Buffer, name string, d Digest) {
	fmt.Fprintf(b, "%s: %s\n", name, d.record().line())
}

// records writes a section, one record per line. The first lead columns are what the record is
// about: they are aligned over the whole section, the others where the keys are the same.
func records(b *bytes.Buffer, name string, all []record, lead int) {
	if len(all) == 0 {
		fmt.Fprintf(b, "%s: []\n", name)
		return
	}
	fmt.Fprintf(b, "%s:\n", name)
	leads := widths(all, lead)
	for len(all) > 0 {
		n := 1
		for n < len(all) && sameKeys(all[0], all[n]) {
			n++
		}
		rest := widths(all[:n], len(all[0].columns))
		copy(rest, leads)
		for _, r := range all[:n] {
			aligned(b, r, rest)
		}
		all = all[n:]
	}
}

func sameKeys(a, b record) bool {
	return slices.EqualFunc(a.columns, b.columns, func(x, y column) bool { return x.key == y.key })
}

// widths returns how wide each of the first n columns is.
func widths(all []record, n int) []int {
	w := make([]int, n)
	for _, r := range all {
		for i, c := range r.columns[:n] {
			w[i] = max(w[i], c.width())
		}
	}
	return w
}

// width is how many characters the column takes.
func (c column) width() int { return utf8.RuneCountInString(c.String()) }

// aligned writes a record with its values in columns: numbers to the right, texts to the left.
func aligned(b *bytes.Buffer, r record, widths []int) {
	b.WriteString("  - {")
	for i, c := range r.columns {
		pad := strings.Repeat(" ", widths[i]-c.width())
		if c.number {
			b.WriteString(c.key + ": " + pad + c.written())
			pad = ""
		} else {
			b.WriteString(c.String())
		}
		if i < len(r.columns)-1 {
			b.WriteString(", " + pad)
		}
	}
	b.WriteString("}\n")
}

// labels writes the labels, one name per line.
func labels(b *bytes.Buffer, all map[string]map[string]string) {
	if len(all) == 0 {
		return
	}
	b.WriteString("labels:\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(b, "  %s: %s\n", scalar(name), labelRecord(name, all[name]).line())
	}
}

// labelRecord returns the written form of one name's labels.
func labelRecord(name string, labels map[string]string) record {
	r := record{identity: name}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		r.columns = append(r.columns, column{key: scalar(key), value: labels[key]})
	}
	return r
}
