package traffic

import (
	"testing"

	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/traffic/testnet"
)

// BenchmarkBurst is what building one frame of a burst costs.
func BenchmarkBurst(b *testing.B) {
	step := spec.Step{Line: 3, Burst: &spec.Burst{From: testnet.Endpoint("client", "10.0.0.1", 0),
		To: testnet.Endpoint("server", "10.0.0.2", 0), Flows: 1000, Packets: 10, Seed: 42}}
	builder := NewBuilder(testnet.Direct())
	b.ReportAllocs()
	for n := 0; n < b.N; {
		for _, err := range builder.Frames(&step) {
			if err != nil {
				b.Fatal(err)
			}
			if n++; n == b.N {
				break
			}
		}
	}
}
