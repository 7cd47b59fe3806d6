package labeler

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
)

// Leg is one direction of a flow: addresses and ports as its packets have them where they enter
// the host, and what was counted.
type Leg struct {
	Src, Dst       netip.AddrPort
	Packets, Bytes uint64
}

// Flow is a connection as a connection table sees it. Where addresses are translated, the reply
// is not the mirror image of the original: a service's address is Original.Dst, the backend that
// was chosen is Reply.Src.
type Flow struct {
	Protocol uint8 // IANA's number
	Zone     uint16
	// Original is the direction of the initiator. Reply may be left out when nothing is known
	// of it.
	Original, Reply Leg
	// Start and End are the times of the flow's first and last packet; both zero is now, which
	// is whoever has the addresses at the latest.
	Start, End int64
	// SrcUID and DstUID are UIDs of the pods at the ends, where the kernel tells them (by
	// control group, network namespace or interface). They beat addresses: only they can tell
	// a pod in its node's network namespace from the node.
	SrcUID, DstUID string
}

// End is one end of a flow.
type End struct {
	*flow.Labels // shared: they must not be changed
	IP           netip.Addr
	Port         uint16
}

// FlowData is a flow with labels, seen from its local end.
type FlowData struct {
	PacketsIn, BytesIn   uint64 // towards the local end
	PacketsOut, BytesOut uint64
	Proto                string // tcp, udp, icmp, icmpv6, sctp, or IANA's number
	Local, Remote        End
	// Service is the service that the flow went through, "namespace/name".
	Service         string
	ConnectionClass ConnectionClass
	ConnectionFlags ConnectionFlags // shared: they must not be changed
	Unlabelled      Reason          // why the class is Unknown
}

var protocolNames = makeProtocolNames()

func makeProtocolNames() (names [256]string) {
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	for p, name := range map[int]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp",
		unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmpv6", unix.IPPROTO_SCTP: "sctp"} {
		names[p] = name
	}
	return names
}

func protocolName(p uint8) string { return protocolNames[p] }
