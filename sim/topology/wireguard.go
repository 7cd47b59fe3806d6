package topology

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// The parts of linux/wireguard.h that are used here.
const (
	wgSetDevice = 1 // WG_CMD_SET_DEVICE
	wgVersion   = 1 // WG_GENL_VERSION

	wgDeviceIndex      = 1 // WGDEVICE_A_*
	wgDevicePrivateKey = 3
	wgDeviceListenPort = 6
	wgDevicePeers      = 8

	wgPeerPublicKey  = 1 // WGPEER_A_*
	wgPeerEndpoint   = 4
	wgPeerAllowedIPs = 9

	wgAllowedFamily  = 1 // WGALLOWEDIP_A_*
	wgAllowedAddress = 2
	wgAllowedMask    = 3
)

// wireGuard gives a WireGuard interface its key and its peer, which may send from any address.
func (n *Network) wireGuard(h *host, i *spec.Interface) error {
	// The keys follow from the ends' addresses, so both ends know the other's.
	private, err := wireGuardKey(i.Tunnel.Local)
	if err != nil {
		return err
	}
	far, err := wireGuardKey(i.Tunnel.Remote)
	if err != nil {
		return err
	}
	peer := nl.NewRtAttr(unix.NLA_F_NESTED, nil)
	peer.AddRtAttr(wgPeerPublicKey, far.PublicKey().Bytes())
	peer.AddRtAttr(wgPeerEndpoint, socketAddress(netip.AddrPortFrom(i.Tunnel.Remote, i.Tunnel.Port)))
	allowed := peer.AddRtAttr(wgPeerAllowedIPs|unix.NLA_F_NESTED, nil)
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		one := allowed.AddRtAttr(unix.NLA_F_NESTED, nil)
		one.AddRtAttr(wgAllowedFamily, nl.Uint16Attr(uint16(family(any))))
		one.AddRtAttr(wgAllowedAddress, any.AsSlice())
		one.AddRtAttr(wgAllowedMask, nl.Uint8Attr(0))
	}
	peers := nl.NewRtAttr(wgDevicePeers|unix.NLA_F_NESTED, nil)
	peers.AddChild(peer)
	return n.Do(h.spec.Name, func() error {
		known, err := netlink.GenlFamilyGet("wireguard")
		if err != nil {
			return fmt.Errorf("find netlink family wireguard: %w", err)
		}
		r := nl.NewNetlinkRequest(int(known.ID), unix.NLM_F_ACK)
		r.AddData(genericHeader{wgSetDevice, wgVersion})
		r.AddData(nl.NewRtAttr(wgDeviceIndex, nl.Uint32Attr(uint32(i.Index))))
		r.AddData(nl.NewRtAttr(wgDevicePrivateKey, private.Bytes()))
		r.AddData(nl.NewRtAttr(wgDeviceListenPort, nl.Uint16Attr(i.Tunnel.Port)))
		r.AddData(peers)
		if _, err := r.Execute(unix.NETLINK_GENERIC, 0); err != nil {
			return fmt.Errorf("configure %s: %w", i.Name, err)
		}
		return nil
	})
}

// genericHeader is struct genlmsghdr of linux/genetlink.h: command, version and two reserved bytes,
// which have to be zero: after 6.18 the WireGuard family refuses others with EINVAL. nl.Genlmsg
// cannot be used, as it sends whatever lies behind its two bytes in memory for the reserved ones.
type genericHeader [4]byte

func (g genericHeader) Len() int          { return len(g) }
func (g genericHeader) Serialize() []byte { return g[:] }

// wireGuardKey is the key of the tunnel's end with an address.
func wireGuardKey(a netip.Addr) (*ecdh.PrivateKey, error) {
	seed := sha256.Sum256([]byte("weir scenario " + a.String()))
	seed[0] &= 248 // RFC 7748 section 5
	seed[31] = seed[31]&127 | 64
	key, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		return nil, fmt.Errorf("make a WireGuard key: %w", err)
	}
	return key, nil
}

// socketAddress is struct sockaddr_in or sockaddr_in6.
func socketAddress(a netip.AddrPort) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(family(a.Addr())))
	b = binary.BigEndian.AppendUint16(b, a.Port())
	if a.Addr().Is4() {
		return append(append(b, a.Addr().AsSlice()...), make([]byte, 8)...)
	}
	return append(append(append(b, 0, 0, 0, 0), a.Addr().AsSlice()...), 0, 0, 0, 0)
}
