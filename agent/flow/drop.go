package flow

import "net/netip"

// DropTableFull is the reason of a drop record that only tells how many drops have no record of
// their own, because there was no room. It is none of the kernel's names.
const DropTableFull = "weir-table-full"

// Drop reports packets of one tuple that the kernel has dropped for one reason.
type Drop struct {
	// Boot and Sequence identify the record, as in Record, but drops are counted on their own.
	Boot     string `json:"boot"`
	Sequence uint64 `json:"sequence"`
	// AgentIP is as in Record.
	AgentIP netip.Addr `json:"agent_ip,omitzero"`
	// NetNS is the inode of the network namespace; 0 when the kernel did not tell.
	NetNS    uint64     `json:"netns,omitempty"`
	Src      netip.Addr `json:"src,omitzero"`
	Dst      netip.Addr `json:"dst,omitzero"`
	SrcPort  uint16     `json:"src_port,omitempty"`
	DstPort  uint16     `json:"dst_port,omitempty"`
	Protocol uint8      `json:"protocol,omitempty"`
	// Reason is the kernel's name for it, "unknown" when it has none, or DropTableFull.
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
	Start   int64  `json:"start_ns,omitempty"` // first drop, ns of the monotonic clock
	End     int64  `json:"end_ns,omitempty"`   // last drop
}
