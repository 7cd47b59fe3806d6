package bpf

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Lookup returns the flow id of the connection that the table holds of a tuple, expired or not; 0 is
// none.
func (d *Datapath) Lookup(t *Tuple) (flow uint64, err error) {
	for range 2 { // the tuple does not know which endpoint is the table's first
		if flow, err = d.lookup(t); flow != 0 || err != nil {
			return flow, err
		}
		t = &Tuple{Addr: [2]netip.Addr{t.Addr[1], t.Addr[0]}, Port: [2]uint16{t.Port[1], t.Port[0]},
			Zone: t.Zone, Protocol: t.Protocol, Cites: t.Cites,
			ICMPID: t.ICMPID, ICMPType: t.ICMPType, ICMPCode: t.ICMPCode}
	}
	return 0, nil
}

func (d *Datapath) lookup(t *Tuple) (flow uint64, err error) {
	if t.Addr[0].Is4() {
		k := weirKey4{Port: t.ports(), Zone: t.Zone, Proto: t.Protocol, Cites: t.Cites}
		for i, a := range t.Addr {
			*(*[4]byte)(unsafe.Pointer(&k.Addr[i])) = a.As4()
		}
		var c weirConn4
		err = d.objs.Conns4.Lookup(&k, &c)
		flow = c.Id
	} else {
		k := weirKey6{Port: t.ports(), Zone: t.Zone, Proto: t.Protocol, Cites: t.Cites}
		for i, a := range t.Addr {
			*(*[16]byte)(unsafe.Pointer(&k.Addr[i])) = a.As16()
		}
		var c weirConn6
		err = d.objs.Conns6.Lookup(&k, &c)
		flow = c.Id
	}
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("look a connection up: %w", err)
	}
	return flow, nil
}

// ports are the tuple's as keys have them: the inverse of setTuple.
func (t *Tuple) ports() [2]uint16 {
	if t.isICMP() {
		return [2]uint16{t.ICMPID, uint16(t.ICMPType)<<8 | uint16(t.ICMPCode)}
	}
	return [2]uint16{bits.ReverseBytes16(t.Port[0]), bits.ReverseBytes16(t.Port[1])}
}

// isICMP tells whether ICMP's fields stand in the place of ports.
func (t *Tuple) isICMP() bool {
	of := t.Protocol
	if t.Cites != 0 {
		of = t.Cites
	}
	v4 := t.Addr[0].Is4()
	return (of == protocolICMP && v4) || (of == protocolICMPv6 && !v4)
}
