package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/runner"
)

// readAll reads frames to the end of the stream and counts the corrupt places.
func readAll(t *testing.T, stream []byte) (frames []Frame, corrupt int) {
	t.Helper()
	r := NewReader(bytes.NewReader(stream))
	for range len(stream) + 2 {
		f, err := r.Next()
		switch {
		case err == nil:
			frames = append(frames, f)
		case errors.Is(err, ErrCorrupt):
			corrupt++
		default:
			require.ErrorIs(t, err, io.EOF)
			return frames, corrupt
		}
	}
	t.Fatal("the reader does not come to an end")
	return nil, 0
}

func TestReaderFindsFramesAgain(t *testing.T) {
	one := Frame{Type: 'a', Body: []byte(`{"a":1}`)}
	two := Frame{Type: 'b', Body: []byte(strings.Repeat("x", 3000))}
	good := Append(Append(nil, one), two)
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 0x20
		return b
	}
	tests := map[string]struct {
		stream  []byte
		frames  []Frame
		corrupt bool
	}{
		"clean":             {good, []Frame{one, two}, false},
		"noise before":      {append([]byte("[ 1.0] oops\n"), good...), []Frame{one, two}, true},
		"type damaged":      {flip(4), []Frame{two}, true},
		"length damaged":    {flip(5), []Frame{two}, true},
		"length too long":   {flip(8), []Frame{two}, true},
		"body damaged":      {flip(headerSize + 1), []Frame{two}, true},
		"magic damaged":     {flip(1), []Frame{two}, true},
		"cut at the end":    {good[:len(good)-1], []Frame{one}, true},
		"cut in the header": {good[:headerSize+len(one.Body)+5], []Frame{one}, true},
		"cut, then goes on": {append(bytes.Clone(good[:len(good)-9]), good...),
			[]Frame{one, one, two}, true},
		"half a magic word": {append([]byte{magic[0], magic[1]}, good...), []Frame{one, two}, true},
		"first byte twice":  {append([]byte{magic[0]}, good...), []Frame{one, two}, true},
		"nothing":           {nil, nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			frames, corrupt := readAll(t, tt.stream)
			require.Equal(t, tt.frames, frames)
			require.Equal(t, tt.corrupt, corrupt > 0)
		})
	}
}

func TestSendAndDecode(t *testing.T) {
	var line bytes.Buffer
	w := NewWriter(&line)
	require.NoError(t, w.Send('x', map[string]int{"n": 7}))
	require.Error(t, w.Send('x', strings.Repeat("y", MaxBody)))
	require.Error(t, w.Send('x', func() {}))
	f, err := NewReader(&line).Next()
	require.NoError(t, err)
	var got map[string]int
	require.NoError(t, f.Decode(&got))
	require.Equal(t, map[string]int{"n": 7}, got)
	require.Error(t, Frame{Type: 'x', Body: []byte("{")}.Decode(&got))
}

func FuzzReader(f *testing.F) {
	good := Append(nil, Frame{Type: 'a', Body: []byte(`{}`)})
	f.Add(good, uint16(0))
	f.Add(append([]byte{magic[0], magic[1], magic[2]}, good...), uint16(3))
	f.Add(magic[:], uint16(9))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		// Whatever comes before and whatever is cut off behind, a frame that arrives whole and
		// is followed by the end of the stream is found.
		whole := Append(bytes.Clone(stream[:min(int(cut), len(stream))]),
			Frame{Type: 'z', Body: []byte(`"the last"`)})
		frames, _ := readAll(t, whole)
		require.NotEmpty(t, frames)
		require.Equal(t, []byte(`"the last"`), frames[len(frames)-1].Body)
		readAll(t, stream)
	})
}

func TestOrders(t *testing.T) {
	spec := make([]byte, 200_000)
	for i := range spec {
		spec[i] = byte(rand.IntN(256)) // incompressible: several parts
	}
	orders := Orders{Faults: true, Now: time.Unix(1, 0).UTC(), Jobs: []runner.Job{
		{Name: "a", Spec: spec}, {Name: "b", Golden: []byte("flows: []\n")}}}
	host, guest := net.Pipe()
	got := make(chan Orders, 1)
	go func() {
		o, err := ReceiveOrders(NewReader(guest), NewWriter(guest))
		if err == nil {
			got <- o
		}
		close(got)
	}()
	r := NewReader(host)
	parts := 0
	require.NoError(t, SendOrders(NewWriter(host), orders, func() error {
		parts++
		f, err := r.Next()
		require.Equal(t, TypeAck, f.Type)
		return err
	}))
	require.Equal(t, orders, <-got)
	require.Greater(t, parts, 8)
}

func TestOrdersThatDoNotArrive(t *testing.T) {
	gone := errors.New("gone")
	require.ErrorIs(t, SendOrders(NewWriter(io.Discard), Orders{}, func() error { return gone }), gone)
	var line bytes.Buffer
	require.NoError(t, NewWriter(&line).Send(TypeCancel, Cancel{}))
	_, err := ReceiveOrders(NewReader(&line), NewWriter(io.Discard))
	require.ErrorContains(t, err, "came instead")
	require.NoError(t, NewWriter(&line).Send(TypeOrders, part{Data: []byte("not gzip")}))
	_, err = ReceiveOrders(NewReader(&line), NewWriter(io.Discard))
	require.ErrorContains(t, err, "decompress orders")
	_, err = ReceiveOrders(NewReader(&line), NewWriter(io.Discard))
	require.ErrorIs(t, err, io.EOF)
}
