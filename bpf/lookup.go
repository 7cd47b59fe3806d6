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
	e, _, err := d.find(t, func(*weirConn) bool { return true })
	return e.Flow, err
}

// Get returns the connection of a tuple, expired or not, with all that CPUs have counted of it so far.
// There is none while a packet is opening or replacing it.
func (d *Datapath) Get(t *Tuple) (e Entry, found bool, err error) {
	if err := d.fold(); err != nil {
		return e, false, err
	}
	return d.find(t, shows)
}

// find looks for a connection whose state is right.
func (d *Datapath) find(t *Tuple, right func(*weirConn) bool) (e Entry, found bool, err error) {
	for range 2 { // the tuple does not know which endpoint is the table's first
		if t.Addr[0].Is4() {
			e, found, err = d.find4(t, right)
		} else {
			e, found, err = d.find6(t, right)
		}
		if found || err != nil {
			return e, found, err
		}
		t = &Tuple{Addr: [2]netip.Addr{t.Addr[1], t.Addr[0]}, Port: [2]uint16{t.Port[1], t.Port[0]},
			Zone: t.Zone, Protocol: t.Protocol, Cites: t.Cites,
			ICMPID: t.ICMPID, ICMPType: t.ICMPType, ICMPCode: t.ICMPCode}
	}
	return Entry{}, false, nil
}

func (d *Datapath) find4(t *Tuple, right func(*weirConn) bool) (e Entry, found bool, err error) {
	k := weirKey4{Port: t.ports(), Zone: t.Zone, Proto: t.Protocol, Cites: t.Cites}
	for i, a := range t.Addr {
		*(*[4]byte)(unsafe.Pointer(&k.Addr[i])) = a.As4()
	}
	var c weirConn4
	if found, err = lookup(d.objs.Conns4, &k, &c); found {
		conn := connOf(4, unsafe.Pointer(&c))
		if found = right(conn); found {
			e.set4(&k, conn)
		}
	}
	return e, found, err
}

func (d *Datapath) find6(t *Tuple, right func(*weirConn) bool) (e Entry, found bool, err error) {
	k := weirKey6{Port: t.ports(), Zone: t.Zone, Proto: t.Protocol, Cites: t.Cites}
	for i, a := range t.Addr {
		*(*[16]byte)(unsafe.Pointer(&k.Addr[i])) = a.As16()
	}
	var c weirConn6
	if found, err = lookup(d.objs.Conns6, &k, &c); found {
		conn := connOf(6, unsafe.Pointer(&c))
		if found = right(conn); found {
			e.set6(&k, conn)
		}
	}
	return e, found, err
}

func lookup(table *ebpf.Map, key, value any) (found bool, err error) {
	err = table.LookupWithFlags(key, value, ebpf.LookupLock) // so that it is of one connection
	switch {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look a connection up: %w", err)
	}
	return true, nil
}

// ports are the tuple's as keys have them: the inverse of setTuple.
func (t *Tuple) ports() [2]uint16 {
	if t.IsICMP() {
		return [2]uint16{t.ICMPID, uint16(t.ICMPType)<<8 | uint16(t.ICMPCode)}
	}
	return [2]uint16{bits.ReverseBytes16(t.Port[0]), bits.ReverseBytes16(t.Port[1])}
}

// IsICMP tells whether ICMP's fields stand in the place of ports.
func (t *Tuple) IsICMP() bool {
	of := t.Protocol
	if t.Cites != 0 {
		of = t.Cites
	}
	v4 := t.Addr[0].Is4()
	return (of == protocolICMP && v4) || (of == protocolICMPv6 && !v4)
}
