package spec

import (
	"fmt"
	"time"
)

var vlanList = listOf("VLAN ids", number[uint16](0, 4094), 0, maxVLANs)

const vlansDoc = "VLAN tags of each packet, the outer one first."

var tcpObject = object[rawStep]{
	what: "a tcp step", doc: "A scripted TCP conversation.",
	fields: []field[rawStep]{
		pairField("tcp", `Client and server: "client:40000 > server:80".`),
		put("script", `One segment per line: "> PSH,ACK 120 seq=1 ack=1 x2  # comment".`,
			scriptValue(parseSegment),
			func(s *rawStep, v []Segment) { s.step.TCP.Script = v }).must(),
		familyField,
		translatedField,
		put("vlans", vlansDoc, vlanList, func(s *rawStep, v []uint16) { s.step.TCP.VLANs = v }),
		put("client_isn", "The client's initial sequence number.", number[uint32](0, 1<<32-1),
			func(s *rawStep, v uint32) { s.step.TCP.ClientISN, s.isns[0] = v, true }),
		put("server_isn", "The server's initial sequence number.", number[uint32](0, 1<<32-1),
			func(s *rawStep, v uint32) { s.step.TCP.ServerISN, s.isns[1] = v, true }),
	},
}

var udpObject = object[rawStep]{
	what: "a udp step", doc: "A scripted UDP exchange.",
	fields: []field[rawStep]{
		pairField("udp", `Client and server: "client:40000 > server:53".`),
		put("script", `One datagram per line: "> 100", "< 0 x2", "< unreachable port".`,
			checkedUDPScript,
			func(s *rawStep, v []Datagram) { s.step.UDP.Script = v }).must(),
		familyField,
		translatedField,
		put("vlans", vlansDoc, vlanList, func(s *rawStep, v []uint16) { s.step.UDP.VLANs = v }),
	},
}

var udpScript = scriptValue(parseDatagram)

var checkedUDPScript = value[[]Datagram]{schema: udpScript.schema,
	read: func(l *list, n *node) ([]Datagram, bool) {
		script, ok := udpScript.read(l, n)
		if ok {
			checkErrors(l, n, script)
		}
		return script, ok
	}}

var packetObject = object[rawStep]{
	what: "a packet step", doc: "One packet, built layer by layer.",
	fields: []field[rawStep]{
		pairField("packet", `Sender and receiver: "client:1000 > server:53"; ports if it has any.`),
		put("layers", "The layers from the outside in. What they do not say is derived.",
			listOf("layers", layerValue, 1, maxLayers),
			func(s *rawStep, v []Layer) { s.step.Packet.Layers = v }).must(),
		put("count", "How often it is sent, 1 by default.", number[int](1, maxRepeat),
			func(s *rawStep, v int) { s.step.Packet.Count = v }),
		put("fragments", "Sends it in fragments: {size: 512, order: [2, 1]}.",
			fragmentsObject.value(),
			func(s *rawStep, v Fragments) { s.step.Packet.Fragments = &v }),
		familyField,
	},
}

var fragmentsObject = object[Fragments]{
	what: "the fragments",
	fields: []field[Fragments]{
		put("size", "Bytes of each fragment but the last behind the IP headers.", eights,
			func(f *Fragments, v int) { f.Size = v }).must(),
		put("order", "Which fragments are sent and in what order, by number from 1; all by default.",
			listOf("fragments", number[int](1, maxFragments), 1, maxFragments),
			func(f *Fragments, v []int) { f.Order = v }),
	},
}

// eights is a multiple of 8 that fits into a packet: the unit of fragment offsets.
var eights = func() value[int] {
	plain := number[int](8, maxPayload-maxPayload%8)
	return value[int]{schema: schema{"type": "integer", "multipleOf": 8, "minimum": 8,
		"maximum": maxPayload - maxPayload%8},
		read: func(l *list, n *node) (int, bool) {
			v, ok := plain.read(l, n)
			if ok && v%8 != 0 {
				l.add(n, fmt.Sprintf("%d is no multiple of 8", v),
					"fragment offsets count in units of 8 bytes")
			}
			return v, ok && v%8 == 0
		}}
}()

var pingObject = object[rawStep]{
	what: "a ping step", doc: "Scripted ICMP echo.",
	fields: []field[rawStep]{
		pairField("ping", `Who asks whom: "client > server".`),
		put("count", "Number of requests, 1 by default.", number[int](1, 65535),
			func(s *rawStep, v int) { s.step.Ping.Count = v }),
		put("payload", "Bytes behind the ICMP header, 56 by default.",
			number[int](0, maxUDPPayload), func(s *rawStep, v int) { s.step.Ping.Payload = v }),
		put("id", "The identifier, 1 by default.", number[uint16](0, 65535),
			func(s *rawStep, v uint16) { s.step.Ping.ID = v }),
		put("reply", "Whether each request is answered; true by default.", boolean(),
			func(s *rawStep, v bool) { s.step.Ping.Reply = v }),
		familyField,
		translatedField,
	},
}

var burstObject = object[rawStep]{
	what: "a burst step", doc: "Many random flows, the same for the same seed.",
	fields: []field[rawStep]{
		pairField("burst", `Between whom: "client > server".`),
		put("flows", "Number of flows.", number[int](1, maxFlows),
			func(s *rawStep, v int) { s.step.Burst.Flows = v }).must(),
		put("packets", "Packets of each flow at most, 1 by default.", number[int](1, maxPerFlow),
			func(s *rawStep, v int) { s.step.Burst.Packets = v }),
		put("seed", "What the flows are drawn from, 1 by default.", number[uint64](0, 1<<53),
			func(s *rawStep, v uint64) { s.step.Burst.Seed = v }),
		put("protocol", "The flows' protocol; both by default.", choice("tcp", "udp"),
			func(s *rawStep, v string) { s.step.Burst.Protocol = v }),
		familyField,
	},
}

const (
	bytesDoc = "Bytes that the client sends."
	replyDoc = "Bytes that the server answers with, 0 by default."
)

var socketObject = object[rawStep]{
	what: "a socket step", doc: "Traffic of real sockets through the kernel's own stack.",
	fields: append([]field[rawStep]{
		put("socket", `Network, client and server: "tcp client:40000 > server:80".`, socketValue,
			func(s *rawStep, v socketSpec) {
				s.step.Socket.Network, s.pair = v.network, &v.pair
			}).must(),
		put("bytes", bytesDoc, number[int](0, maxBytes),
			func(s *rawStep, v int) { s.step.Socket.Bytes = v }),
		put("reply", replyDoc, number[int](0, maxBytes),
			func(s *rawStep, v int) { s.step.Socket.Reply = v }),
		endField,
		familyField,
	}, groupFields...),
}

// groupFields are where the sockets' processes would be.
var groupFields = []field[rawStep]{
	put("client_group", groupDoc("client"), groupPath,
		func(s *rawStep, v placed[string]) { s.step.Socket.ClientGroup, s.group = v.v, v.at }),
	put("server_group", groupDoc("server"), groupPath,
		func(s *rawStep, v placed[string]) { s.step.Socket.ServerGroup = v.v }),
}

func groupDoc(of string) string {
	return "The control group in which the " + of + "'s socket is made: kubepods/pod<UID>/app; that of the run by default."
}

var groupPath = keepPlace(match("a control group", "kubepods/pod0b5bb4ae-9b5c-4b29-9a4c-8e0e4d2f6a11/app",
	`^[A-Za-z0-9_-][A-Za-z0-9._:-]*(/[A-Za-z0-9_-][A-Za-z0-9._:-]*)*$`, same))

// endField is how a connection of real sockets ends.
var endField = put("end", "How a TCP connection ends: half-close (the client closes before the listener replies), "+
	"reset (by the client) or refused (nobody listens); both close by default.",
	keepPlace(choice("half-close", "reset", "refused")),
	func(s *rawStep, v placed[string]) { s.step.Socket.End, s.ending = v.v, v.at })

// socketSpec is "tcp client > server:80".
type socketSpec struct {
	network string
	pair    rawPair
}

var socketValue = value[socketSpec]{
	schema: schema{"type": "string", "pattern": `^(tcp|udp) +\S+ +> +\S+$`,
		"examples": []string{"tcp client:40000 > server:80"}},
	read: func(l *list, n *node) (v socketSpec, ok bool) {
		if !text(l, n, "a network and two endpoints", "") {
			return v, false
		}
		cut, rest := 0, n.text
		for cut < len(n.text) && n.text[cut] != ' ' {
			cut++
		}
		v.network = n.text[:cut]
		if v.network != "tcp" && v.network != "udp" {
			l.add(n, fmt.Sprintf("%q is no network", shorten(v.network)),
				suggestOr(v.network, []string{"tcp", "udp"}, "write tcp client:40000 > server:80"))
			return v, false
		}
		for cut < len(rest) && rest[cut] == ' ' {
			cut++
		}
		v.pair, ok = pairValue.read(l, n.at(cut, rest[cut:]))
		return v, ok
	},
}

// socketForm is the long form of a socket step: `tcp: {from: client, to: server:80, bytes: 9}`.
func socketForm(network string) object[rawStep] {
	inner := object[rawStep]{
		what: "real " + network + " sockets",
		fields: append([]field[rawStep]{
			put("from", "The client; its port is the kernel's choice when there is none.", endValue,
				func(s *rawStep, v rawEnd) { s.ends().from = v }).must(),
			put("to", "The server, with its port.", endValue,
				func(s *rawStep, v rawEnd) { s.ends().to = v }).must(),
			put("bytes", bytesDoc, number[int](0, maxBytes),
				func(s *rawStep, v int) { s.step.Socket.Bytes = v }).must(),
			put("reply", replyDoc, number[int](0, maxBytes),
				func(s *rawStep, v int) { s.step.Socket.Reply = v }),
			endField,
		}, groupFields...),
	}
	return object[rawStep]{
		what: "a socket step", doc: "Traffic of real sockets through the kernel's own stack.",
		fields: []field[rawStep]{
			{name: network, doc: "Client, server and sizes.", schema: inner.schema(), required: true,
				read: inner.read},
			familyField,
		},
	}
}

// ends is the step's pair, made when it is not there yet.
func (s *rawStep) ends() *rawPair {
	if s.pair == nil {
		s.pair = &rawPair{}
	}
	return s.pair
}

var advanceObject = object[rawStep]{
	what: "an advance step", doc: "Lets time pass on the virtual clock.",
	fields: []field[rawStep]{
		put("advance", "How much time passes: 11s, 1m30s, 6h.", duration(maxAdvance),
			func(s *rawStep, v time.Duration) { s.step.Advance = v }).must(),
	},
}

// change is one thing and what happens to it.
type change[T any] struct {
	of     placed[T]
	action string
}

// changeOf is a change of a thing, which the error calls what, and which has a name of the pattern.
func changeOf[T any](what, example, pattern string, named value[T], action value[string]) value[change[T]] {
	return value[change[T]]{
		schema: schema{"type": "object", "minProperties": 1, "maxProperties": 1,
			"patternProperties":    schema{`^` + pattern + `$`: action.schema},
			"additionalProperties": false},
		read: func(l *list, n *node) (c change[T], ok bool) {
			if n.kind != mapKind || len(n.pairs) != 1 {
				l.add(n, "want one "+what+" and what happens to it", "write "+example)
				return c, false
			}
			of, ok := named.read(l, n.pairs[0].key)
			if !ok {
				return c, false
			}
			c.of = placed[T]{of, n.pairs[0].key}
			c.action, ok = action.read(l, n.pairs[0].value)
			return c, ok
		},
	}
}
