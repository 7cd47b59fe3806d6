package differ

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// tuple is what connections and flows have in common.
type tuple struct {
	zone               uint16
	protocol, cites    uint8
	icmpType, icmpCode uint8
	icmpID             uint16
	src, dst           string
	srcPort, dstPort   uint16
}

var protocols = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}

func protocolName(n uint8) string {
	if name, ok := protocols[n]; ok {
		return name
	}
	return "proto-" + strconv.Itoa(int(n))
}

// text is the tuple, with an arrow between its endpoints.
func (t tuple) text(arrow string) string {
	var b strings.Builder
	b.WriteString(protocolName(t.protocol))
	if t.cites != 0 {
		fmt.Fprintf(&b, " cites %s", protocolName(t.cites))
	}
	if t.icmpType != 0 || t.icmpCode != 0 || t.icmpID != 0 {
		fmt.Fprintf(&b, " %d/%d id %d", t.icmpType, t.icmpCode, t.icmpID)
	}
	if t.zone != 0 {
		fmt.Fprintf(&b, " zone %d", t.zone)
	}
	fmt.Fprintf(&b, " %s %s %s", end(t.src, t.srcPort), arrow, end(t.dst, t.dstPort))
	return b.String()
}

func end(addr string, port uint16) string {
	if port == 0 {
		return addr
	}
	return net.JoinHostPort(addr, strconv.Itoa(int(port)))
}

// since writes a time relative to the begin of a case. Zero is "never".
func since(ns int64) string {
	if ns == 0 {
		return "never"
	}
	return time.Duration(ns - begin).String()
}
