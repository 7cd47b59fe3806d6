package bench

import (
	"encoding/binary"
	"errors"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/latency"
)

// besideCases are packets at the programs that stand beside the packet path: what each feature costs a
// packet that it passes by, and one that it reads.
func besideCases() []packetCase {
	query := udp4().to(53, dnsQuery())
	return []packetCase{
		{name: "feature/dns", what: "the feature dns alone: TCP over IPv4, which is no DNS",
			packet: tcp4(ack), flows: 1, none: true, load: loadDNS},
		{name: "feature/dns-query", what: "the same: a query over UDP whose transaction is open",
			packet: query, flows: 1, none: true, load: loadDNS},
		{name: "feature/handshake", what: "the feature handshake alone: TCP over IPv4, an established flow",
			packet: tcp4(ack), flows: 1, none: true, load: loadHandshake},
		{name: "feature/handshake-syn", what: "the same: a SYN whose handshake is open",
			packet: tcp4(syn), flows: 1, none: true, load: loadHandshake},
	}
}

// besides is a hook's worth of a feature.
var besides = bpf.Hook{Interface: 1}

func loadDNS() (*subject, error) {
	d, err := latency.OpenDNS([]uint16{53}, latency.Options{})
	if err != nil {
		return nil, err
	}
	stub, err := d.Stub(besides, 1)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &subject{program: stub, close: func() error { return errors.Join(stub.Close(), d.Close()) }}, nil
}

func loadHandshake() (*subject, error) {
	h, err := latency.OpenHandshake(latency.Options{})
	if err != nil {
		return nil, err
	}
	stub, err := h.Stub(besides, 1)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &subject{program: stub, close: func() error { return errors.Join(stub.Close(), h.Close()) }}, nil
}

// dnsQuery asks for the address of weir.example.com.
func dnsQuery() []byte {
	return []byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" +
		"\x04weir\x07example\x03com\x00\x00\x01\x00\x01")
}

// to is the packet to another port, with the beginning of its UDP payload replaced.
func (p packet) to(port uint16, payload []byte) packet {
	p = p.from(binary.BigEndian.Uint16(p.frame[p.port:]))
	binary.BigEndian.PutUint16(p.frame[p.port+2:], port)
	copy(p.frame[p.port+8:], payload)
	return p
}
