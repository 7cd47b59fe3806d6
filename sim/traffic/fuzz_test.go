package traffic

import (
	"bytes"
	"testing"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// FuzzLayers builds packets of layers with any fields and values: no panic, and either an error
// or one frame that is at most as large as the link carries.
func FuzzLayers(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, uint64(7), "0a0b", true)
	f.Add([]byte("\x08\x30\x31\x09\x05"), uint64(1), "02:00:00:00:00:01", false)
	f.Add(bytes.Repeat([]byte{5, 9}, 20), ^uint64(0), "fd00::1", true)
	kinds := LayerKinds()
	f.Fuzz(func(t *testing.T, program []byte, number uint64, text string, v6 bool) {
		var list []spec.Layer
		for i := 0; i+1 < len(program) && len(list) < 20; i += 2 {
			l := layer(kinds[int(program[i])%len(kinds)])
			names := LayerFields(l.Kind)
			for k := range program[i+1] % 4 {
				name := names[int(program[i+1]/4+k)%len(names)]
				l.Fields[name] = pick(name, l.Kind, number>>k, text, int(program[i]))
			}
			list = append(list, l)
		}
		over := over4
		if v6 {
			over = over6
		}
		frames, err := collect(NewBuilder(testnet.Direct()), packetStep(over, list...))
		if err == nil && (len(frames) != 1 || len(frames[0].Data) > 1518) {
			t.Fatalf("%d frames of %+v", len(frames), list)
		}
	})
}

// pick prefers a value that the field takes.
func pick(name, kind string, number uint64, text string, salt int) any {
	choices := []any{number, number & 0xff, number & 7, text, number&1 == 0, float64(number), nil,
		"02:00:00:00:00:07", "10.0.0.9", "fd00::9", "SYN", "abcd", "eth0"}
	conv := schema[kind][name]
	for i := range choices {
		x := choices[(i+salt)%len(choices)]
		if conv == nil {
			return number & 0x3f
		}
		if _, err := conv(x); err == nil {
			return x
		}
	}
	return choices[salt%len(choices)]
}
