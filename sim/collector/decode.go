// Package collector receives NetFlow version 9 (RFC 3954) and IPFIX (RFC 7011) over UDP and writes
// each flow record as a line of JSON, with the elements' names from IANA's registry. It is made
// to read what flow exporters say in scenarios; it is no collector for a network.
package collector

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"
)

// Set identifiers: of templates and options templates (RFC 3954 section 5, RFC 7011 section 3.3).
const (
	netflowTemplates = 0
	netflowOptions   = 1
	ipfixTemplates   = 2
	ipfixOptions     = 3
	firstData        = 256
)

// Bounds on what a message may make us remember.
const (
	maxTemplates = 4096
	maxFields    = 512
)

// variable is the length of a field that carries its length with it (RFC 7011 section 7).
const variable = 0xffff

// enterprise is the bit that says that an element is a vendor's.
const enterprise = 0x8000

// Record is a flow record: values by element name. Elements that are not known are called after
// their numbers ("element-95", "element-9-12" of enterprise 9), and are hexadecimal.
type Record map[string]any

// field is an element of a template.
type field struct {
	element
	length int
}

// templateKey is whose template it is: identifiers are an exporter's own.
type templateKey struct {
	version uint16
	domain  uint32
	id      uint16
}

// Decoder reads messages of one exporter. It is not safe for concurrent use.
type Decoder struct {
	templates map[templateKey][]field
	// Skipped is how many data sets had no template, as yet.
	Skipped int
}

// NewDecoder returns a Decoder that knows no template.
func NewDecoder() *Decoder { return &Decoder{templates: map[templateKey][]field{}} }

// errShort is the error for a message that ends too early.
var errShort = errors.New("the message is shorter than it says")

// Decode reads one message, keeps its templates and returns the records of its data sets. Records
// before an error are returned with it.
func (d *Decoder) Decode(message []byte) ([]Record, error) {
	if len(message) < 16 {
		return nil, errShort
	}
	version := binary.BigEndian.Uint16(message)
	var sets []byte
	var domain uint32
	switch version {
	case 9:
		if len(message) < 20 {
			return nil, errShort
		}
		domain, sets = binary.BigEndian.Uint32(message[16:]), message[20:]
	case 10:
		size := int(binary.BigEndian.Uint16(message[2:]))
		if size < 16 || size > len(message) {
			return nil, errShort
		}
		domain, sets = binary.BigEndian.Uint32(message[12:]), message[16:size]
	default:
		return nil, fmt.Errorf("version %d is neither NetFlow 9 nor IPFIX", version)
	}
	return d.sets(version, domain, sets)
}

func (d *Decoder) sets(version uint16, domain uint32, data []byte) ([]Record, error) {
	var records []Record
	for len(data) >= 4 {
		id, size := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if size < 4 || size > len(data) {
			return records, errShort
		}
		body := data[4:size]
		data = data[size:]
		found, err := d.set(version, domain, id, body)
		records = append(records, found...)
		if err != nil {
			return records, err
		}
	}
	return records, nil
}

func (d *Decoder) set(version uint16, domain uint32, id uint16, body []byte) ([]Record, error) {
	switch {
	case version == 9 && id == netflowTemplates, version == 10 && id == ipfixTemplates:
		return nil, d.template(version, domain, body, false)
	case version == 9 && id == netflowOptions:
		return nil, d.netflowOptions(domain, body)
	case version == 10 && id == ipfixOptions:
		return nil, d.template(version, domain, body, true)
	case id < firstData:
		return nil, nil // reserved
	}
	fields, ok := d.templates[templateKey{version, domain, id}]
	if !ok {
		d.Skipped++
		return nil, nil
	}
	return data(fields, body)
}

// template reads the templates of a set. Those of options are kept without fields: their data is
// about the exporter, not about flows.
func (d *Decoder) template(version uint16, domain uint32, body []byte, options bool) error {
	for len(body) >= 4 {
		key := templateKey{version, domain, binary.BigEndian.Uint16(body)}
		count := int(binary.BigEndian.Uint16(body[2:]))
		body = body[4:]
		if count == 0 { // withdrawn
			delete(d.templates, key)
			continue
		}
		if options {
			if len(body) < 2 {
				return errShort
			}
			body = body[2:]
		}
		fields, rest, err := readFields(version, count, body)
		if err != nil {
			return err
		}
		body = rest
		if options {
			fields = nil
		}
		if err := d.keep(key, fields); err != nil {
			return err
		}
	}
	return nil
}

// netflowOptions reads the options templates of NetFlow 9, which give lengths in bytes where others
// count fields (RFC 3954 section 6.1), and keeps them without fields as well.
func (d *Decoder) netflowOptions(domain uint32, body []byte) error {
	for len(body) >= 6 {
		key := templateKey{9, domain, binary.BigEndian.Uint16(body)}
		size := int(binary.BigEndian.Uint16(body[2:])) + int(binary.BigEndian.Uint16(body[4:]))
		if key.id < firstData && size == 0 {
			return nil // padding
		}
		if size > len(body)-6 {
			return errShort
		}
		body = body[6+size:]
		if err := d.keep(key, nil); err != nil {
			return err
		}
	}
	return nil
}

// keep keeps a template, up to a bound.
func (d *Decoder) keep(key templateKey, fields []field) error {
	if key.id < firstData {
		return fmt.Errorf("a template has the identifier %d", key.id)
	}
	if _, known := d.templates[key]; !known && len(d.templates) == maxTemplates {
		return fmt.Errorf("more than %d templates", maxTemplates)
	}
	d.templates[key] = fields
	return nil
}

func readFields(version uint16, count int, body []byte) (fields []field, rest []byte, err error) {
	if count > maxFields {
		return nil, nil, fmt.Errorf("a template has %d fields", count)
	}
	for range count {
		if len(body) < 4 {
			return nil, nil, errShort
		}
		id, length := binary.BigEndian.Uint16(body), int(binary.BigEndian.Uint16(body[2:]))
		body = body[4:]
		var owner uint32
		if version == 10 && id&enterprise != 0 {
			if len(body) < 4 {
				return nil, nil, errShort
			}
			owner, id = binary.BigEndian.Uint32(body), id&^enterprise
			body = body[4:]
		}
		if version == 9 && length == variable {
			return nil, nil, errors.New("NetFlow 9 has no fields of variable length")
		}
		fields = append(fields, field{lookUp(owner, id), length})
	}
	if smallest(fields) == 0 {
		return nil, nil, errors.New("the records of a template are empty")
	}
	return fields, body, nil
}

// data reads the records of a data set. What is left behind the last is padding.
func data(fields []field, body []byte) ([]Record, error) {
	var records []Record
	for len(fields) > 0 && len(body) >= smallest(fields) {
		r := Record{}
		for _, f := range fields {
			value, rest, ok := f.cut(body)
			if !ok {
				return records, errShort
			}
			body = rest
			r[f.name] = f.form.read(value)
		}
		records = append(records, r)
	}
	return records, nil
}

// smallest is the least that a record takes; that of a template is more than nothing.
func smallest(fields []field) int {
	n := 0
	for _, f := range fields {
		if f.length == variable {
			n++
		} else {
			n += f.length
		}
	}
	return n
}

// cut takes the field's bytes off.
func (f field) cut(body []byte) (value, rest []byte, ok bool) {
	n := f.length
	if n == variable {
		if len(body) < 1 {
			return nil, nil, false
		}
		n, body = int(body[0]), body[1:]
		if n == 255 {
			if len(body) < 2 {
				return nil, nil, false
			}
			n, body = int(binary.BigEndian.Uint16(body)), body[2:]
		}
	}
	if n > len(body) {
		return nil, nil, false
	}
	return body[:n], body[n:], true
}

// form is how an element's bytes are read.
type form int

const (
	opaque form = iota // hexadecimal
	number
	address
	text
)

// read gives the value. Numbers may be shorter than their type (RFC 7011 section 6.2), and what
// has no sensible length is shown as it is.
func (f form) read(b []byte) any {
	switch {
	case f == number && len(b) > 0 && len(b) <= 8:
		var n uint64
		for _, x := range b {
			n = n<<8 | uint64(x)
		}
		return n
	case f == address:
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case f == text && utf8.Valid(b):
		return string(b)
	}
	return hex.EncodeToString(b)
}
