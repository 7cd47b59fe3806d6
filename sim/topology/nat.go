package topology

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// natTable is the name of our table in a router's nftables.
const natTable = "weir"

// translate sets a router's address translation up: rules of nftables, in a table of our own for both
// families.
func (h *host) translate() error {
	if len(h.spec.NAT) == 0 {
		return nil
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(h.ns)))
	if err != nil {
		return natError(err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: natTable})
	prerouting := c.AddChain(&nftables.Chain{Table: table, Name: "prerouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	postrouting := c.AddChain(&nftables.Chain{Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	for _, n := range h.spec.NAT {
		switch n.Kind {
		case spec.NATMasquerade:
			c.AddRule(&nftables.Rule{Table: table, Chain: postrouting, Exprs: masquerade(n.Out)})
		case spec.NATSource:
			c.AddRule(&nftables.Rule{Table: table, Chain: postrouting, Exprs: source(n.Out, n.To.Addr())})
		default:
			for _, to := range h.targets(n) {
				c.AddRule(&nftables.Rule{Table: table, Chain: prerouting,
					Exprs: target(n.Protocol, to, n.To)})
			}
		}
	}
	return natError(c.Flush())
}

// natError tells a kernel that cannot translate from other errors: it lacks nf_tables, or a module
// for what the rules need.
func natError(err error) error {
	for _, missing := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENOENT} {
		if errors.Is(err, missing) {
			return &Unsupported{Feature: "nat", Err: err}
		}
	}
	if err != nil {
		return fmt.Errorf("set address translation up: %w", err)
	}
	return nil
}

// targets are the addresses and ports that a rule is for: of a node port, all of the router's of the
// backend's family.
func (h *host) targets(n spec.NAT) []netip.AddrPort {
	if n.Kind == spec.NATTarget {
		return []netip.AddrPort{n.Match}
	}
	var all []netip.AddrPort
	for _, i := range h.spec.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr().Is4() == n.To.Addr().Is4() {
				all = append(all, netip.AddrPortFrom(p.Addr(), n.Match.Port()))
			}
		}
	}
	return all
}

// register is the register that rules compare in.
const register = 1

// is compares what a rule has just loaded.
func is(value []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: value}
}

func meta(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register}, is(value)}
}

func leavesBy(name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return meta(expr.MetaKeyOIFNAME, padded)
}

func ofFamily(a netip.Addr) []expr.Any {
	return meta(expr.MetaKeyNFPROTO, []byte{protocolFamily(a)})
}

// protocolFamily is the family as netfilter has it, NFPROTO_IPV4 or NFPROTO_IPV6.
func protocolFamily(a netip.Addr) byte { return byte(family(a)) }

func masquerade(out string) []expr.Any { return append(leavesBy(out), &expr.Masq{}) }

func source(out string, to netip.Addr) []expr.Any {
	return slices.Concat(ofFamily(to), leavesBy(out), []expr.Any{
		&expr.Immediate{Register: register, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(protocolFamily(to)), RegAddrMin: register},
	})
}

// Where a packet has what rules compare (RFC 791, RFC 8200; ports of TCP and UDP alike).
const (
	destination4, destination6 = 16, 24
	destinationPort            = 2
)

func target(protocol string, match, to netip.AddrPort) []expr.Any {
	number, offset := byte(unix.IPPROTO_TCP), uint32(destination4)
	if protocol == "udp" {
		number = unix.IPPROTO_UDP
	}
	if match.Addr().Is6() {
		offset = destination6
	}
	address := match.Addr().AsSlice()
	const portRegister = register + 1
	return slices.Concat(ofFamily(to.Addr()), meta(expr.MetaKeyL4PROTO, []byte{number}), []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset,
			Len: uint32(len(address))},
		is(address),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader,
			Offset: destinationPort, Len: 2},
		is(port(match.Port())),
		&expr.Immediate{Register: register, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: portRegister, Data: port(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(protocolFamily(to.Addr())),
			RegAddrMin: register, RegProtoMin: portRegister},
	})
}

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
