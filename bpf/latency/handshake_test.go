package latency

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/bpf/kerneltest"
)

func netipPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func openHandshake(t testing.TB) *Handshakes {
	t.Helper()
	kerneltest.NeedRoot(t)
	h, err := OpenHandshake(Options{Max: 64, Virtual: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	require.NoError(t, h.SetNow(begin))
	return h
}

func handshakes(t testing.TB, h *Handshakes, now int64, last bool) (all []Handshake) {
	t.Helper()
	require.NoError(t, h.Drain(now, last, func(x *Handshake) { all = append(all, *x) }))
	return all
}

// step is a packet at a hook, so many ns after the beginning.
type step struct {
	at       int64
	hook     int
	back     bool // from the server
	flags    string
	seq, ack uint32
	payload  int
}

func TestHandshake(t *testing.T) {
	syn, synAck, ack := step{0, 0, false, "S", 99, 0, 0}, step{20, 0, true, "SA", 499, 100, 0},
		step{50, 0, false, "A", 100, 500, 0}
	at := func(s step, ns int64, hook int) step {
		s.at, s.hook = ns, hook
		return s
	}
	data := ack
	data.payload = 9
	fin := ack
	fin.flags = "FA"
	wrong := synAck
	wrong.ack = 101
	early, late := ack, ack
	early.ack, late.seq = 499, 101
	again := syn
	again.seq = 7
	for name, test := range map[string]struct {
		steps []step
		want  []Handshake // times and repeats alone
	}{
		"plain":           {[]step{syn, synAck, ack}, []Handshake{{ToServer: 20, ToClient: 30}}},
		"fin":             {[]step{syn, synAck, fin}, []Handshake{{ToServer: 20, ToClient: 30}}},
		"several hooks":   {[]step{syn, at(syn, 5, 1), at(synAck, 15, 1), synAck, ack, at(ack, 60, 1)}, []Handshake{{ToServer: 15, ToClient: 35}}},
		"syn twice":       {[]step{syn, at(syn, 10, 0), synAck, ack}, []Handshake{{ToServer: -1, ToClient: 30, SYNs: 1}}},
		"syn ack twice":   {[]step{syn, synAck, at(synAck, 30, 0), ack}, []Handshake{{ToServer: 20, ToClient: -1, SYNACKs: 1}}},
		"syn twice later": {[]step{syn, synAck, at(syn, 25, 0), at(synAck, 30, 0), ack}, []Handshake{{ToServer: 20, ToClient: -1, SYNs: 1, SYNACKs: 1}}},
		"data":            {[]step{syn, synAck, data}, []Handshake{{ToServer: 20, ToClient: -1}}},
		"wrong numbers":   {[]step{syn, wrong, ack, synAck, early, late, at(ack, 70, 0)}, []Handshake{{ToServer: 20, ToClient: 50}}},
		"no ack":          {[]step{syn, synAck}, []Handshake{{ToServer: 20, ToClient: -1}}},
		"no answer":       {[]step{syn}, nil},
		"no syn":          {[]step{synAck, ack}, nil},
		"a second one":    {[]step{syn, synAck, ack, again}, []Handshake{{ToServer: 20, ToClient: 30}}},
		"instead of it":   {[]step{again, at(syn, 0, 0), synAck, ack}, []Handshake{{ToServer: 20, ToClient: 30}}},
	} {
		for family, ends := range map[string][2]netip.AddrPort{"v4": {client4, server4}, "v6": {client6, server6}} {
			for tags := range 3 {
				t.Run(name+" "+family, func(t *testing.T) {
					h := openHandshake(t)
					all := newHooks(t, h, false)
					for _, s := range test.steps {
						a, b := ends[0], ends[1]
						if s.back {
							a, b = b, a
						}
						require.NoError(t, h.SetNow(begin+s.at))
						all.send(t, s.hook, tagged(tcp(t, a, b, s.flags, s.seq, s.ack,
							make([]byte, s.payload)), tags))
					}
					for i := range test.want {
						w := &test.want[i]
						w.Zone, w.Client, w.Server, w.Start = 7, ends[0], ends[1], begin
					}
					require.Equal(t, test.want, handshakes(t, h, begin+100, true))
					require.Empty(t, handshakes(t, h, begin+100, true), "told twice")
					for slot, n := range h.pending.Waiting {
						require.Zero(t, n, "slot %d", slot)
					}
				})
			}
		}
	}
}

func TestHandshakeExpires(t *testing.T) {
	h := openHandshake(t)
	all := newHooks(t, h, false)
	all.send(t, 0, tcp(t, client4, server4, "S", 1, 0, nil))
	all.send(t, 0, tcp(t, server4, client4, "SA", 1, 2, nil))
	require.Empty(t, handshakes(t, h, begin+handshakeFor, false))
	require.Len(t, handshakes(t, h, begin+handshakeFor+1, false), 1)
}

func TestHandshakeTableFull(t *testing.T) {
	h := openHandshake(t)
	all := newHooks(t, h, false)
	for port := range uint16(70) {
		all.send(t, 0, tcp(t, netipPort(client4.Addr(), 1000+port), server4, "S", 1, 0, nil))
	}
	lost, err := h.Lost()
	require.NoError(t, err)
	require.EqualValues(t, 6, lost)
}

func FuzzDecodeCompleted(f *testing.F) {
	f.Add(make([]byte, unsafe.Sizeof(handshakeCompleted{})))
	good := make([]byte, unsafe.Sizeof(handshakeCompleted{}))
	good[38] = 4
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := decodeCompleted(raw)
		if err != nil {
			return
		}
		x := told(&c.Key, &c.Handshake)
		require.True(t, x.Client.IsValid() && x.Server.IsValid())
	})
}
