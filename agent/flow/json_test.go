package flow

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// scramble sets every field of a struct at random; about half stay empty.
func scramble(t testing.TB, v reflect.Value, rng *rand.Rand) {
	t.Helper()
	for i := range v.NumField() {
		f := v.Field(i)
		if rng.IntN(2) == 0 {
			continue
		}
		switch f.Interface().(type) {
		case netip.Addr:
			all := []string{"10.0.0.1", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%eth0", "::"}
			f.Set(reflect.ValueOf(netip.MustParseAddr(all[rng.IntN(len(all))])))
			continue
		case EndReason:
			f.SetUint(rng.Uint64N(7))
			continue
		}
		switch f.Kind() {
		case reflect.String:
			all := []string{"eth0", "<a&b>", "\"\\\n", "ü\u2028", "\xff", "idle"}
			f.SetString(all[rng.IntN(len(all))])
		case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			f.SetUint(rng.Uint64() >> rng.IntN(64))
		case reflect.Bool:
			f.SetBool(rng.IntN(2) > 0)
		case reflect.Int64:
			f.SetInt(int64(rng.Uint64()))
		case reflect.Slice:
			hooks := make([]Hook, rng.IntN(4))
			for i := range hooks {
				scramble(t, reflect.ValueOf(&hooks[i]).Elem(), rng)
			}
			f.Set(reflect.ValueOf(hooks))
		case reflect.Struct:
			scramble(t, f, rng)
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
			if f.Elem().Kind() == reflect.Struct {
				scramble(t, f.Elem(), rng)
			} else {
				f.Elem().SetInt(rng.Int64())
			}
		default:
			require.Fail(t, "a field of a new kind", v.Type().Field(i).Name)
		}
	}
}

// TestAppendJSON compares with package json.
func TestAppendJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var r Record
		scramble(t, reflect.ValueOf(&r).Elem(), rng)
		want, err := json.Marshal(&r)
		require.NoError(t, err)
		require.Equal(t, string(want), string(r.AppendJSON(nil)))
	}
}

// TestReportJSON has a line of each kind.
func TestReportJSON(t *testing.T) {
	for want, r := range map[string]Report{
		`{"drop":{"boot":"b","sequence":1,"reason":"no-socket","packets":0}}`: {
			Drop: &Drop{Boot: "b", Sequence: 1, Reason: "no-socket"}},
		`{"dns":{"boot":"b","sequence":2,"outcome":"lost","reason":"sink","messages":3}}`: {
			DNS: &DNS{Boot: "b", Sequence: 2, Outcome: DNSLost, Reason: "sink", Messages: 3}},
		string((&Record{Boot: "b", Sequence: 3}).AppendJSON(nil)): {Record: &Record{Boot: "b", Sequence: 3}},
	} {
		require.Equal(t, want, string(r.AppendJSON(nil)))
		boot, sequence := r.Numbered()
		require.Equal(t, "b", boot)
		require.NotZero(t, sequence)
	}
}

func usual() Record {
	return Record{
		Boot: "a21b8f65ec768f23", Sequence: 1234567, Flow: 987654321,
		Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.2"),
		SrcPort: 40064, DstPort: 8080, Protocol: 6, Packets: 6, Bytes: 484,
		Flags: FIN | SYN | PSH | ACK, Start: 6251881355571, End: 6254897355537,
		Role: RoleInitiator, State: "established", Reason: EndActive,
		Seen: []Hook{{Interface: "eth0", Direction: Egress}},
	}
}

func TestAppendJSONAllocatesNothing(t *testing.T) {
	r, b := usual(), make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { r.AppendJSON(b) }))
}

func BenchmarkAppendJSON(b *testing.B) {
	r, buf := usual(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = r.AppendJSON(buf[:0])
	}
	b.ReportMetric(float64(len(buf)), "B/record")
}
