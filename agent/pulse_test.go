package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPulse(t *testing.T) {
	var p pulse
	require.Error(t, p.ready(), "it has not started")
	require.NoError(t, p.healthy(time.Now()))
	cfg := DefaultConfig()
	cfg.Pace.Policy = paceFixed
	p.start(&cfg)
	require.NoError(t, p.ready())
	begun := p.good
	require.NoError(t, p.healthy(begun.Add(minLimit)))
	require.EqualError(t, p.healthy(begun.Add(minLimit+time.Second)), "no sweep has succeeded for 1m1s")
	p.swept(begun, errors.New("no memory"))
	require.EqualError(t, p.healthy(begun.Add(minLimit+time.Second)), "no sweep has succeeded for 1m1s: no memory")
	p.swept(begun, nil)
	require.NoError(t, p.healthy(p.good.Add(minLimit)))
	_, s := p.read()
	require.Equal(t, []uint64{2, 1}, []uint64{s.Done, s.Failed})
	cfg.Interval = time.Minute
	p.expect(&cfg)
	require.NoError(t, p.healthy(p.good.Add(3*time.Minute)), "sweeps are rarer")
	cfg.Clock.Virtual = true
	p.expect(&cfg)
	require.NoError(t, p.healthy(p.good.Add(time.Hour)), "somebody else says when to sweep")
	p.stop()
	require.Error(t, p.ready())
	require.NoError(t, p.healthy(p.good.Add(time.Hour)), "it ends")
}
