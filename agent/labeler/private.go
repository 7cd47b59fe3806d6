package labeler

import "net/netip"

// Prefixes that are not routed on the Internet, beside those that net/netip knows (RFC 1918,
// RFC 4193, link-local, loopback).
var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, carrier-grade NAT
	benchmark   = netip.MustParsePrefix("198.18.0.0/15") // RFC 2544
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")     // RFC 791
)

// isPrivate tells whether packets of an address stay off the Internet.
func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() ||
		a.IsUnspecified() || sharedSpace.Contains(a) || benchmark.Contains(a) ||
		thisNetwork.Contains(a) || a == broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
