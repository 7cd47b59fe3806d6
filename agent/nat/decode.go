package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	subsystem    = 1 // NFNL_SUBSYS_CTNETLINK, the upper byte of message types
	typeNew      = subsystem << 8
	typeGet      = subsystem<<8 | 1
	typeDelete   = subsystem<<8 | 2
	groupNew     = 1 // NFNLGRP_CONNTRACK_NEW
	groupDestroy = 3 // NFNLGRP_CONNTRACK_DESTROY

	headerSize = 4 // struct nfgenmsg

	ctaTupleOriginal = 1
	ctaTupleReply    = 2
	ctaStatus        = 3
	ctaProtoInfo     = 4
	ctaCountersOrig  = 9
	ctaCountersReply = 10
	ctaID            = 12
	ctaZone          = 18

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNumber  = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3
	ctaICMPID       = 4
	ctaICMPType     = 5
	ctaICMPCode     = 6
	ctaICMPv6ID     = 7
	ctaICMPv6Type   = 8
	ctaICMPv6Code   = 9

	ctaProtoInfoTCP      = 1
	ctaProtoInfoTCPState = 1

	ctaCountersPackets = 1
	ctaCountersBytes   = 2

	statusSeenReply = 1 << 1 // IPS_SEEN_REPLY of nf_conntrack_common.h
	statusDying     = 1 << 9 // IPS_DYING
)

// tracked is an entry of the kernel's connection tracking.
type tracked struct {
	tuple [2]Tuple // by Side
	zone  uint16   // the kernel's, not the agent's
	id    uint32   // tells entries apart that have one tuple after another
	dying bool

	replied bool     // the responder has sent something
	tcp     TCPState // 0: it is not TCP
	counts  [2]Count // of the initiator and of the responder; zero unless the kernel counts
}

// translated tells whether the connection has two names.
func (t *tracked) translated() bool { return t.tuple[Before] != t.tuple[After] }

var errShort = errors.New("it is cut off")

// decode reads the payload of a ctnetlink message, without the netlink header.
func decode(payload []byte) (tracked, error) {
	var t tracked
	if len(payload) < headerSize {
		return t, errShort
	}
	var reply Tuple
	err := attributes(payload[headerSize:], func(kind uint16, v []byte) error {
		switch kind {
		case ctaTupleOriginal:
			return decodeTuple(v, &t.tuple[Before])
		case ctaTupleReply:
			return decodeTuple(v, &reply)
		case ctaStatus:
			status, err := number[uint32](v)
			t.dying, t.replied = status&statusDying != 0, status&statusSeenReply != 0
			return err
		case ctaProtoInfo:
			return decodeProtoInfo(v, &t.tcp)
		case ctaCountersOrig:
			return decodeCount(v, &t.counts[0])
		case ctaCountersReply:
			return decodeCount(v, &t.counts[1])
		case ctaID:
			return set(&t.id, v)
		case ctaZone:
			return set(&t.zone, v)
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	before := &t.tuple[Before]
	switch {
	case !before.Src.IsValid() || !reply.Src.IsValid():
		return t, errors.New("it lacks a tuple")
	case before.Src.Is4() != reply.Src.Is4(), before.Protocol != reply.Protocol:
		return t, errors.New("its two tuples do not fit each other")
	}
	after := reply.Reverse()
	// The reply's type is another one: flows know a query and its reply by the request's.
	after.ICMPType, after.ICMPCode = before.ICMPType, before.ICMPCode
	t.tuple[After] = after
	return t, nil
}

func decodeTuple(b []byte, t *Tuple) error {
	err := attributes(b, func(kind uint16, v []byte) error {
		switch kind {
		case ctaTupleIP:
			return decodeAddresses(v, t)
		case ctaTupleProto:
			return decodeProtocol(v, t)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case t.Src.BitLen() == 0 || t.Src.BitLen() != t.Dst.BitLen():
		return errors.New("a tuple has not two addresses of one family")
	}
	if !hasPorts(t.Protocol) {
		t.SrcPort, t.DstPort = 0, 0
	}
	return nil
}

func decodeAddresses(b []byte, t *Tuple) error {
	return attributes(b, func(kind uint16, v []byte) error {
		to, size := &t.Src, 4
		switch kind {
		case ctaIPv4Src:
		case ctaIPv4Dst:
			to = &t.Dst
		case ctaIPv6Src:
			size = 16
		case ctaIPv6Dst:
			to, size = &t.Dst, 16
		default:
			return nil
		}
		if len(v) != size {
			return fmt.Errorf("an address has %d bytes", len(v))
		}
		*to, _ = netip.AddrFromSlice(v)
		return nil
	})
}

func decodeProtocol(b []byte, t *Tuple) error {
	return attributes(b, func(kind uint16, v []byte) error {
		switch kind {
		case ctaProtoNumber:
			return set(&t.Protocol, v)
		case ctaProtoSrcPort:
			return set(&t.SrcPort, v)
		case ctaProtoDstPort:
			return set(&t.DstPort, v)
		case ctaICMPID, ctaICMPv6ID:
			return set(&t.ICMPID, v)
		case ctaICMPType, ctaICMPv6Type:
			return set(&t.ICMPType, v)
		case ctaICMPCode, ctaICMPv6Code:
			return set(&t.ICMPCode, v)
		}
		return nil
	})
}

// decodeProtoInfo reads the state of TCP; that of other protocols is passed over.
func decodeProtoInfo(b []byte, to *TCPState) error {
	return attributes(b, func(kind uint16, v []byte) error {
		if kind != ctaProtoInfoTCP {
			return nil
		}
		return attributes(v, func(kind uint16, v []byte) error {
			if kind != ctaProtoInfoTCPState {
				return nil
			}
			return set((*uint8)(to), v)
		})
	})
}

func decodeCount(b []byte, to *Count) error {
	return attributes(b, func(kind uint16, v []byte) error {
		switch kind {
		case ctaCountersPackets:
			return set(&to.Packets, v)
		case ctaCountersBytes:
			return set(&to.Bytes, v)
		}
		return nil
	})
}

// attributes goes through netlink attributes (struct nlattr).
func attributes(b []byte, each func(kind uint16, value []byte) error) error {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if size < unix.SizeofNlAttr || size > len(b) {
			return errShort
		}
		if err := each(kind, b[unix.SizeofNlAttr:size]); err != nil {
			return err
		}
		aligned := (size + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1)
		b = b[min(aligned, len(b)):] // the last one may lack its padding
	}
	if len(b) > 0 {
		return errShort
	}
	return nil
}

// number reads a value in network order, as ctnetlink writes all of them.
func number[T uint8 | uint16 | uint32 | uint64](b []byte) (T, error) {
	var v T
	if len(b) != binary.Size(v) {
		return 0, fmt.Errorf("a number of %d bytes has %d", binary.Size(v), len(b))
	}
	for _, x := range b {
		v = T(uint64(v)<<8 | uint64(x))
	}
	return v, nil
}

func set[T uint8 | uint16 | uint32 | uint64](to *T, b []byte) (err error) {
	*to, err = number[T](b)
	return err
}
