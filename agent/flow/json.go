package flow

import (
	"encoding/json"
	"net/netip"
	"strconv"
)

// AppendJSON appends the report as an object: a flow record as it is, others below the name of their
// kind.
func (r Report) AppendJSON(b []byte) []byte {
	if r.Record != nil {
		return r.Record.AppendJSON(b)
	}
	var other any = r.Drop
	if r.DNS != nil {
		other = r.DNS
	}
	b = append(append(append(b, `{"`...), r.Kind()...), `":`...)
	text, err := json.Marshal(other)
	if err != nil {
		text = []byte("null") // cannot happen: both have a JSON form
	}
	return append(append(b, text...), '}')
}

// AppendJSON appends what json.Marshal makes of the record. It allocates only to grow b, and for
// names that need escapes.
func (r *Record) AppendJSON(b []byte) []byte {
	b = appendText(append(b, `{"boot":`...), r.Boot)
	b = strconv.AppendUint(append(b, `,"sequence":`...), r.Sequence, 10)
	if r.AgentIP.IsValid() {
		b = appendAddr(append(b, `,"agent_ip":`...), r.AgentIP)
	}
	b = strconv.AppendUint(append(b, `,"flow":`...), r.Flow, 10)
	b = appendSome(b, `,"zone":`, uint64(r.Zone))
	b = appendAddr(append(b, `,"src":`...), r.Src)
	b = appendAddr(append(b, `,"dst":`...), r.Dst)
	b = strconv.AppendUint(append(b, `,"src_port":`...), uint64(r.SrcPort), 10)
	b = strconv.AppendUint(append(b, `,"dst_port":`...), uint64(r.DstPort), 10)
	b = strconv.AppendUint(append(b, `,"protocol":`...), uint64(r.Protocol), 10)
	b = appendSome(b, `,"cites":`, uint64(r.Cites))
	b = appendSome(b, `,"icmp_type":`, uint64(r.ICMPType))
	b = appendSome(b, `,"icmp_code":`, uint64(r.ICMPCode))
	b = appendSome(b, `,"icmp_id":`, uint64(r.ICMPID))
	b = strconv.AppendUint(append(b, `,"packets":`...), r.Packets, 10)
	b = strconv.AppendUint(append(b, `,"bytes":`...), r.Bytes, 10)
	b = appendSome(b, `,"packets_before":`, r.PacketsBefore)
	b = appendSome(b, `,"bytes_before":`, r.BytesBefore)
	if r.Flags != 0 {
		b = append(r.Flags.append(append(b, `,"flags":"`...)), '"')
	}
	b = strconv.AppendInt(append(b, `,"start_ns":`...), r.Start, 10)
	b = strconv.AppendInt(append(b, `,"end_ns":`...), r.End, 10)
	b = appendText(append(b, `,"role":`...), string(r.Role))
	b = appendText(append(b, `,"state":`...), r.State)
	b = appendText(append(b, `,"end":`...), r.Reason.String())
	b = appendName(b, `,"icmp_error":`, r.ICMPError)
	b = appendHooks(append(b, `,"seen":`...), r.Seen)
	if r.Duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	b = appendSome(b, `,"sampling":`, uint64(r.Sampling))
	b = appendSome(b, `,"rtt_us_min":`, uint64(r.RTTMin))
	b = appendSome(b, `,"rtt_us_last":`, uint64(r.RTTLast))
	b = appendSome(b, `,"rtt_us_max":`, uint64(r.RTTMax))
	b = appendSome(b, `,"rtt_samples":`, uint64(r.RTTSamples))
	if r.Handshake != nil {
		b = r.Handshake.appendJSON(append(b, `,"handshake":`...))
	}
	if r.Lookups != nil {
		b = r.Lookups.appendJSON(append(b, `,"lookups":`...))
	}
	b = r.NATBefore.appendJSON(b, `,"nat_before":`)
	b = r.NATAfter.appendJSON(b, `,"nat_after":`)
	b = r.SrcLabels.appendJSON(b, `,"src_labels":`)
	b = r.DstLabels.appendJSON(b, `,"dst_labels":`)
	b = appendName(b, `,"service":`, r.Service)
	b = appendName(b, `,"class":`, r.Class)
	b = appendName(b, `,"unlabelled":`, r.Unlabelled)
	if r.LabelFlags != 0 {
		b = appendText(append(b, `,"label_flags":`...), r.LabelFlags.String())
	}
	b = appendName(b, `,"environment":`, r.Environment)
	return append(b, '}')
}

// appendJSON appends labels with their key, unless there are none.
func (l *Labels) appendJSON(b []byte, key string) []byte {
	if l == nil {
		return b
	}
	b = appendText(append(append(b, key...), `{"kind":`...), string(l.Kind))
	b = appendName(b, `,"cluster":`, l.Cluster)
	b = appendName(b, `,"namespace":`, l.Namespace)
	b = appendName(b, `,"workload":`, l.Workload)
	b = appendName(b, `,"workload_kind":`, l.WorkloadKind)
	b = appendName(b, `,"pod":`, l.Pod)
	b = appendName(b, `,"app":`, l.App)
	b = appendName(b, `,"instance":`, l.Instance)
	b = appendName(b, `,"service":`, l.Service)
	b = appendName(b, `,"node":`, l.Node)
	b = appendName(b, `,"zone":`, l.Zone)
	b = appendName(b, `,"region":`, l.Region)
	b = appendName(b, `,"cloud":`, l.Cloud)
	b = appendName(b, `,"cloud_service":`, l.CloudService)
	b = appendName(b, `,"name":`, l.Name)
	return append(b, '}')
}

func (h *Handshake) appendJSON(b []byte) []byte {
	b = append(b, '{')
	inside := len(b)
	if h.Server != nil {
		b = strconv.AppendInt(append(b, `,"server_ns":`...), *h.Server, 10)
	}
	if h.Client != nil {
		b = strconv.AppendInt(append(b, `,"client_ns":`...), *h.Client, 10)
	}
	b = appendSome(b, `,"syn_repeats":`, uint64(h.SYNRepeats))
	b = appendSome(b, `,"syn_ack_repeats":`, uint64(h.SYNACKRepeats))
	return append(trimComma(b, inside), '}')
}

func (l *Lookups) appendJSON(b []byte) []byte {
	b = append(b, '{')
	inside := len(b)
	b = appendSome(b, `,"answered":`, uint64(l.Answered))
	b = appendSome(b, `,"failed":`, uint64(l.Failed))
	b = appendSome(b, `,"unanswered":`, uint64(l.Unanswered))
	b = appendName(b, `,"rcode":`, l.Rcode)
	b = strconv.AppendInt(append(b, `,"latency_ns_mean":`...), l.Mean, 10)
	b = strconv.AppendInt(append(b, `,"latency_ns_max":`...), l.Max, 10)
	return append(trimComma(b, inside), '}')
}

// trimComma removes the comma before the first member of an object that begins at an index.
func trimComma(b []byte, inside int) []byte {
	if len(b) > inside {
		copy(b[inside:], b[inside+1:])
		b = b[:len(b)-1]
	}
	return b
}

// appendJSON appends a translation with its key, unless there is none.
func (n *NAT) appendJSON(b []byte, key string) []byte {
	if *n == (NAT{}) {
		return b
	}
	b = appendText(append(append(b, key...), `{"id":`...), n.ID)
	b = appendSome(b, `,"flow":`, n.Flow)
	b = appendAddr(append(b, `,"src":`...), n.Src)
	b = appendAddr(append(b, `,"dst":`...), n.Dst)
	b = strconv.AppendUint(append(b, `,"src_port":`...), uint64(n.SrcPort), 10)
	b = strconv.AppendUint(append(b, `,"dst_port":`...), uint64(n.DstPort), 10)
	b = appendSome(b, `,"icmp_id":`, uint64(n.ICMPID))
	return append(b, '}')
}

func appendHooks(b []byte, hooks []Hook) []byte {
	if hooks == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i := range hooks {
		if i > 0 {
			b = append(b, ',')
		}
		h := &hooks[i]
		b = append(b, '{')
		if h.Namespace != "" {
			b = append(appendText(append(b, `"namespace":`...), h.Namespace), ',')
		}
		b = appendText(append(b, `"interface":`...), h.Interface)
		b = appendText(append(b, `,"direction":`...), string(h.Direction))
		b = append(b, '}')
	}
	return append(b, ']')
}

// append appends what String gives.
func (f TCPFlags) append(b []byte) []byte {
	first := true
	for i, n := range flagNames {
		if f&(1<<i) == 0 {
			continue
		}
		if !first {
			b = append(b, '|')
		}
		b, first = append(b, n...), false
	}
	return b
}

// appendSome appends a number with its key, unless it is 0.
func appendSome(b []byte, key string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendUint(append(b, key...), v, 10)
}

// appendName appends a string with its key, unless it is empty.
func appendName(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(append(b, key...), s)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Zone() != "" {
		return appendText(b, a.String())
	}
	if !a.IsValid() {
		return append(b, `""`...)
	}
	return append(a.AppendTo(append(b, '"')), '"')
}

// appendText appends a string. What is not plain is left to package json.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string always has a JSON form
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
