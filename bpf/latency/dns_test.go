package latency

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/batch"
	"github.com/weirnet/weir/bpf/kerneltest"
)

const (
	timeout = 10 * time.Second
	begin   = int64(1_000_000_000)
	udpPort = 17
	tcpPort = 6
)

func openDNS(t testing.TB) *DNS {
	t.Helper()
	kerneltest.NeedRoot(t)
	d, err := OpenDNS([]uint16{53, 5353}, Options{Max: 64, Virtual: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.SetNow(begin))
	return d
}

// message is a DNS message with one question.
func message(id, flags uint16, name string, kind uint16) []byte {
	m := header(id, flags, 1)
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label != "" {
			m = append(append(m, byte(len(label))), label...)
		}
	}
	m = append(m, 0)
	m = binary.BigEndian.AppendUint16(m, kind)
	return binary.BigEndian.AppendUint16(m, 1) // IN
}

func header(id, flags, questions uint16) []byte {
	var m []byte
	for _, v := range []uint16{id, flags, questions, 0, 0, 0} {
		m = binary.BigEndian.AppendUint16(m, v)
	}
	return m
}

func drain(t testing.TB, d *DNS, now int64) []Transaction {
	t.Helper()
	return drainAll(t, d, now, false)
}

func drainAll(t testing.TB, d *DNS, now int64, stop bool) (all []Transaction) {
	t.Helper()
	require.NoError(t, d.SetNow(now))
	require.NoError(t, d.Drain(now, timeout, stop, func(x *Transaction) { all = append(all, *x) }))
	return all
}

func reasons(t testing.TB, d *DNS) map[string]uint64 {
	t.Helper()
	all := map[string]uint64{}
	counts, err := d.Counts()
	require.NoError(t, err)
	for r, n := range counts {
		if n > 0 {
			all[Reason(r).String()] = n
		}
	}
	return all
}

// TestDNSTransaction: a query and its response, each seen at two hooks, are told once.
func TestDNSTransaction(t *testing.T) {
	long := strings.Repeat("a23456789012345678901234567890.", 8) + "abcde." // 254 bytes on the wire
	for name, test := range map[string]struct {
		v6    bool
		tags  int
		proto uint8
		name  string
	}{
		"v4": {name: "Example.COM."}, "v6": {v6: true, name: "example.com."},
		"tag": {tags: 1, name: "a."}, "tags": {tags: 2, name: "a."}, "v6 tags": {v6: true, tags: 2, name: "b."},
		"tcp": {proto: tcpPort, name: "over.tcp."}, "tcp6": {proto: tcpPort, v6: true, name: "over.tcp."},
		"root": {name: "."}, "long": {name: long},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDNS(t)
			h := newHooks(t, d, false)
			client, server := client4, server4
			if test.v6 {
				client, server = client6, server6
			}
			query, response := message(7, 0x0100, test.name, 28), message(7, 0x8383, test.name, 28)
			want := Transaction{Zone: 7, Protocol: udpPort, Client: client, Server: server, ID: 7,
				Outcome: Answered, Question: Question{test.name, 28}, Rcode: 3, Truncated: true,
				Query: begin, Response: begin + 25_000_000}
			q, r := udp(t, client, server, query), udp(t, server, client, response)
			if test.proto == tcpPort {
				want.Protocol = tcpPort
				q = tcp(t, client, server, "A", 1, 1, prefixed(query))
				r = tcp(t, server, client, "A", 1, 1, prefixed(response))
			}
			q, r = tagged(q, test.tags), tagged(r, test.tags)
			h.send(t, 0, q)
			require.NoError(t, d.SetNow(begin+10))
			h.send(t, 1, q)
			require.NoError(t, d.SetNow(want.Response))
			h.send(t, 1, r)
			require.NoError(t, d.SetNow(want.Response+10))
			h.send(t, 0, r)
			require.Equal(t, []Transaction{want}, drain(t, d, want.Response+20))
			require.Empty(t, drain(t, d, want.Response+answeredFor+20), "told twice")
			require.Empty(t, reasons(t, d))
			require.Zero(t, held(t, d))
		})
	}
}

func prefixed(m []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
}

func held(t testing.TB, d *DNS) (n int) {
	t.Helper()
	require.NoError(t, batch.Each(d.objs.Queries, func(*dnsQueryKey, *dnsQuery) { n++ }))
	return n
}

func TestDNSRepeated(t *testing.T) {
	d := openDNS(t)
	h := newHooks(t, d, false)
	q := udp(t, client4, server4, message(1, 0, "a.b.", 1))
	for range 3 {
		h.send(t, 0, q)
		h.send(t, 1, q)
	}
	for range 3 {
		h.send(t, 1, udp(t, server4, client4, message(1, 0x8000, "a.b.", 1)))
	}
	got := drain(t, d, begin+5)
	require.Len(t, got, 1)
	require.EqualValues(t, 2, got[0].Repeats)
	require.NoError(t, d.SetNow(begin+100))
	h.send(t, 1, q) // the id is used again, on another way
	h.send(t, 1, udp(t, server4, client4, message(1, 0x8000, "a.b.", 1)))
	got = drain(t, d, begin+100)
	require.Len(t, got, 1)
	require.EqualValues(t, begin+100, got[0].Query)
}

func TestDNSUnanswered(t *testing.T) {
	d := openDNS(t)
	h := newHooks(t, d, false)
	h.send(t, 0, udp(t, client4, server4, message(1, 0, "a.b.", 1)))
	require.Empty(t, drain(t, d, begin+int64(timeout)))
	got := drain(t, d, begin+int64(timeout)+1)
	want := Transaction{Zone: 7, Protocol: udpPort, Client: client4, Server: server4, ID: 1,
		Outcome: Unanswered, Question: Question{"a.b.", 1}, Query: begin}
	require.Equal(t, []Transaction{want}, got)
	h.send(t, 0, udp(t, server4, client4, message(1, 0x8000, "a.b.", 1)))
	got = drain(t, d, begin+int64(timeout)+1)
	require.Len(t, got, 1)
	require.Equal(t, Unasked, got[0].Outcome)
	require.Equal(t, "a.b.", got[0].Name)
	require.Zero(t, got[0].Query)
}

// At the stop everything is told: what is late as unanswered, the rest as open, once.
func TestDNSOpenAtStop(t *testing.T) {
	d := openDNS(t)
	h := newHooks(t, d, false)
	h.send(t, 0, udp(t, client4, server4, message(1, 0, "a.", 1)))
	now := begin + int64(timeout)
	require.NoError(t, d.SetNow(now))
	h.send(t, 0, udp(t, client4, server4, message(2, 0, "b.", 1)))
	h.send(t, 0, udp(t, client4, server4, message(3, 0, "c.", 1)))
	h.send(t, 0, udp(t, server4, client4, message(3, 0x8000, "c.", 1)))
	outcomes := map[uint16]Outcome{}
	for _, x := range drainAll(t, d, now+1, true) {
		outcomes[x.ID] = x.Outcome
	}
	require.Equal(t, map[uint16]Outcome{1: Unanswered, 2: Open, 3: Answered}, outcomes)
	require.Empty(t, drainAll(t, d, now+1, true))
}

// TestDNSApart: whatever is in the key keeps transactions apart.
func TestDNSApart(t *testing.T) {
	d := openDNS(t)
	h := newHooks(t, d, false)
	h.send(t, 0, udp(t, client4, server4, message(1, 0, "a.", 1)))
	r := message(2, 0x8000, "a.", 1)
	h.send(t, 0, udp(t, server4, client4, r))
	got := drain(t, d, begin)
	require.Len(t, got, 1)
	require.Equal(t, Unasked, got[0].Outcome)
}

func TestDNSPorts(t *testing.T) {
	for name, test := range map[string]struct {
		client, server uint16
		told           int
		reasons        map[string]uint64
	}{
		"other port": {client: 40000, server: 54},
		"second":     {client: 40000, server: 5353, told: 1},
		"both":       {client: 53, server: 53, told: 1},
		"wrong way":  {client: 53, server: 40000, reasons: map[string]uint64{"wrong-way": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDNS(t)
			h := newHooks(t, d, false)
			a, b := netipPort(client4.Addr(), test.client), netipPort(server4.Addr(), test.server)
			h.send(t, 0, udp(t, a, b, message(1, 0, "a.", 1)))
			h.send(t, 0, udp(t, b, a, message(1, 0x8000, "a.", 1)))
			require.Len(t, drain(t, d, begin), test.told)
			if test.reasons == nil {
				test.reasons = map[string]uint64{}
			}
			require.Equal(t, test.reasons, reasons(t, d))
		})
	}
}

func TestDNSUnreadable(t *testing.T) {
	good := message(1, 0, "example.com.", 1)
	for name, test := range map[string]struct {
		message []byte
		reason  string
	}{
		"empty":          {nil, "short"},
		"short":          {good[:11], "short"},
		"no name":        {good[:12], "cut-question"},
		"cut label":      {good[:15], "cut-question"},
		"cut type":       {good[:len(good)-1], "cut-question"},
		"pointer":        {append(header(1, 0, 1), 0xc0, 12, 0, 1, 0, 1), "compressed-name"},
		"later pointer":  {append(header(1, 0, 1), 1, 'a', 0xc0, 12, 0, 1, 0, 1), "compressed-name"},
		"reserved label": {append(header(1, 0, 1), 0x41, 12, 0, 1, 0, 1), "compressed-name"},
		"long": {message(1, 0, strings.Repeat("a23456789012345678901234567890.", 8)+"abcdef", 1),
			"long-name"},
		"many labels": {message(1, 0, strings.Repeat("a.", 128), 1), "long-name"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openDNS(t)
			h := newHooks(t, d, false)
			h.send(t, 0, udp(t, client4, server4, test.message))
			require.Equal(t, map[string]uint64{test.reason: 1}, reasons(t, d))
			require.Empty(t, drain(t, d, begin+2*int64(timeout)))
		})
	}
}

// TestDNSOverTCP: what stands at the beginning of a segment need not be a message.
func TestDNSOverTCP(t *testing.T) {
	d := openDNS(t)
	h := newHooks(t, d, false)
	q := prefixed(message(1, 0, "a.", 1))
	for _, payload := range [][]byte{nil, {0}, {0, 12}, q[:len(q)-1], q[1:],
		prefixed(header(1, 0, 0)), []byte(strings.Repeat("x", 100))} {
		h.send(t, 0, tcp(t, client4, server4, "A", 1, 1, payload))
	}
	h.send(t, 0, tcp(t, server4, client4, "A", 1, 1, prefixed(message(1, 0x8000, "a.", 1))))
	require.Empty(t, drain(t, d, begin+2*int64(timeout)))
	h.send(t, 0, tcp(t, client4, server4, "A", 1, 1, append(q, q...)))
	answer := prefixed(append(message(1, 0x8000, "a.", 1), make([]byte, 500)...))
	h.send(t, 0, tcp(t, server4, client4, "A", 1, 1, answer[:100]))
	require.Len(t, drain(t, d, begin+2*int64(timeout)), 1)
}

func TestDNSTableFull(t *testing.T) {
	d := openDNS(t)
	h := newHooks(t, d, false)
	for id := range uint16(65) {
		h.send(t, 0, udp(t, client4, server4, message(id, 0, "a.", 1)))
	}
	require.Equal(t, map[string]uint64{"table-full": 1}, reasons(t, d))
	require.Len(t, drain(t, d, begin+2*int64(timeout)), 64)
}

func TestNameText(t *testing.T) {
	for wire, want := range map[string]string{
		"": ".", "\x01a": "a.", "\x01A\x02bC": "A.bC.", "\x03a.b": `a\.b.`, "\x02\x00\xff": `\000\255.`,
		"\x02\\ ": `\\\032.`, "\x03a": ".", "\x01a\x05b": "a.",
	} {
		require.Equal(t, want, nameText([]byte(wire)), "%q", wire)
	}
}

// FuzzNameText: whatever stands on the wire becomes visible ASCII that reads back as the labels that
// are there in full.
func FuzzNameText(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x03www\x07Example\x03com", "\x03a.b\x02\\ ", "\x02\x00\xff", "\x05ab",
		"\xc0\x0c", "\x01a\xc0\x0c", "\x3f" + strings.Repeat("(", 63), strings.Repeat("\x01\xe9", 127)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		text := nameText(wire)
		require.True(t, strings.HasSuffix(text, "."), text)
		for _, c := range text {
			require.True(t, c > ' ' && c < 0x7f, text)
		}
		var want []byte
		for rest := wire; len(rest) > 0 && rest[0] > 0 && rest[0] < 64 && int(rest[0]) < len(rest); rest = rest[1+rest[0]:] {
			want = append(want, rest[:1+rest[0]]...)
		}
		require.Equal(t, want, wireOf(t, text), text)
	})
}

// wireOf reads a name in the form of zone files.
func wireOf(t *testing.T, text string) (wire []byte) {
	var label []byte
	if text == "." {
		return nil
	}
	for len(text) > 0 {
		switch c := text[0]; {
		case c == '.':
			require.NotEmpty(t, label)
			wire, label = append(append(wire, byte(len(label))), label...), nil
		case c == '\\' && text[1] >= '0' && text[1] <= '9':
			n, err := strconv.ParseUint(text[1:4], 10, 8)
			require.NoError(t, err)
			label, text = append(label, byte(n)), text[3:]
		case c == '\\':
			label, text = append(label, text[1]), text[1:]
		default:
			label = append(label, c)
		}
		text = text[1:]
	}
	require.Empty(t, label)
	return wire
}

// FuzzDecodeResponse: whatever stands in the ring buffer becomes a transaction or an error.
func FuzzDecodeResponse(f *testing.F) {
	f.Add(make([]byte, unsafe.Sizeof(dnsResponse{})))
	f.Add([]byte("short"))
	good := make([]byte, unsafe.Sizeof(dnsResponse{}))
	good[40], good[70] = 4, 1
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeResponse(raw)
		if err != nil {
			return
		}
		x := r.transaction()
		require.True(t, x.Client.IsValid() && x.Server.IsValid())
		require.Contains(t, []string{"answered", "unasked"}, x.Outcome.String())
		for _, c := range x.Name {
			require.True(t, c > ' ' && c < 0x7f, x.Name)
		}
		require.True(t, x.Name == "" || strings.HasSuffix(x.Name, "."))
	})
}
