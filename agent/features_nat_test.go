package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/ifaces"
	"github.com/weirnet/weir/agent/nat"
)

// newTranslatingStage is a stage whose agent listens to the far end's connection tracking. It skips
// the test where the kernel cannot tell.
func newTranslatingStage(t *testing.T) *stage {
	t.Helper()
	if err := probeTranslations(); os.Geteuid() == 0 &&
		(errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL)) {
		t.Skipf("skipped: %v", err)
	}
	s := newStage(t, func(c *Config) { c.Features = []string{FeatureNAT} })
	require.NotNil(t, s.agent.features.nat)
	return s
}

// translate puts a UDP connection into the kernel's tracking, whose replies come from and go to where
// they are translated.
func (s *stage) translate(t *testing.T, src, dst, newSrc, newDst string) (undo func()) {
	t.Helper()
	end := func(src, dst string) netlink.IPTuple {
		a, b := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return netlink.IPTuple{SrcIP: net.IP(a.Addr().AsSlice()), DstIP: net.IP(b.Addr().AsSlice()),
			SrcPort: a.Port(), DstPort: b.Port(), Protocol: unix.IPPROTO_UDP}
	}
	inside(t, s.far, func() error {
		return netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
			FamilyType: unix.AF_INET, Forward: end(src, dst), Reverse: end(newDst, newSrc), TimeOut: 100})
	})
	return func() {
		inside(t, s.far, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	}
}

// named is how a record or its other side is called.
func named(src, dst netip.Addr, sport, dport uint16) string {
	return netip.AddrPortFrom(src, sport).String() + ">" + netip.AddrPortFrom(dst, dport).String()
}

// others lists what the records since the last call say of their other sides: the record's ends, and
// the other side's flow, id and ends.
func (s *stage) others(t *testing.T) (ids map[string]string, all map[string][2]string, flows map[string]uint64) {
	t.Helper()
	ids, all, flows = map[string]string{}, map[string][2]string{}, map[string]uint64{}
	for _, r := range s.ledger.records {
		own := named(r.Src, r.Dst, r.SrcPort, r.DstPort)
		flows[own] = r.Flow
		text := [2]string{}
		for i, n := range []flow.NAT{r.NATBefore, r.NATAfter} {
			if n.ID == "" {
				require.Zero(t, n)
				continue
			}
			ids[own] = n.ID
			text[i] = named(n.Src, n.Dst, n.SrcPort, n.DstPort)
			flows[own+" other"] = n.Flow
		}
		all[own] = text
	}
	s.ledger.records = nil
	return ids, all, flows
}

// TestTranslationsJoin lets both sides of a translated connection pass a hook.
func TestTranslationsJoin(t *testing.T) {
	s := newTranslatingStage(t)
	undo := s.translate(t, "10.0.0.1:4000", "10.0.0.2:53", "10.0.0.1:5000", "10.0.0.2:5353")
	s.send(t, s.udp(t, 4000, 53, 10), s.udp(t, 5000, 5353, 10), s.udp(t, 6000, 53, 10))
	s.at(t, time.Minute) // they have ended
	const before, after, plain = "10.0.0.1:4000>10.0.0.2:53", "10.0.0.1:5000>10.0.0.2:5353",
		"10.0.0.1:6000>10.0.0.2:53"
	ids, all, flows := s.others(t)
	require.Equal(t, map[string][2]string{before: {"", after}, after: {before, ""}, plain: {}}, all)
	require.Equal(t, ids[before], ids[after])
	require.Len(t, ids, 2)
	require.Equal(t, flows[before], flows[after+" other"], "the record names the other side's flow")

	// The kernel lets go of it, and the agent's connection lives longer.
	s.send(t, s.udp(t, 4000, 53, 10))
	undo()
	for i := range 5 {
		s.at(t, time.Minute+time.Duration(i)*time.Second)
	}
	c, err := s.agent.Counters()
	require.NoError(t, err)
	require.Equal(t, &nat.Stats{Translations: 1}, c.NAT)
	s.at(t, 2*time.Minute)
	_, all, _ = s.others(t)
	require.Equal(t, map[string][2]string{before: {"", after}}, all)
	s.at(t, 3*time.Minute)
	c, err = s.agent.Counters()
	require.NoError(t, err)
	require.Equal(t, &nat.Stats{}, c.NAT)
	s.balanced(t)
}

// TestNATCommand lists a translation in both forms.
func TestNATCommand(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	if err := probeTranslations(); os.Geteuid() == 0 && errors.Is(err, unix.EINVAL) {
		t.Skipf("skipped: %v", err)
	}
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = socket
	s := &stage{pair: p}
	s.translate(t, "10.0.0.1:4000", "10.0.0.2:53", "10.0.0.1:5000", "10.0.0.2:5353")
	for _, features := range [][]string{nil, {FeatureNAT}} {
		cfg.Features = features
		a, err := New(cfg, Options{})
		require.NoError(t, err)
		stop := run(t, a)
		eventually(t, "the control socket", func() bool { return control.Answers(socket) })
		text, err := natOutput(socket, "table")
		if features == nil {
			require.ErrorContains(t, err, "the feature nat does not run")
			require.NoError(t, stop())
			continue
		}
		require.NoError(t, err)
		require.Regexp(t, `(?m)^udp +10.0.0.1:4000 +10.0.0.2:53 +10.0.0.1:5000 +10.0.0.2:5353 +-/- `, text)
		require.Contains(t, text, "1 translations; lost 0,")
		text, err = natOutput(socket, "json")
		require.NoError(t, err)
		var all []control.Translation
		require.NoError(t, json.Unmarshal([]byte(text), &all))
		require.Len(t, all, 1)
		require.EqualValues(t, 5353, all[0].After.DstPort)
		_, err = natOutput(socket, "xml")
		require.EqualError(t, err, "--output xml: want table or json")
		require.NoError(t, stop())
	}
}

func natOutput(socket, form string) (string, error) {
	c := ConntrackCommand()
	var out bytes.Buffer
	c.SetArgs([]string{"nat", "--socket", socket, "-o", form})
	c.SetOut(&out)
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.Execute()
	return out.String(), err
}

// TestTranslationsReverse: replies say how they are called on the other side, in their direction.
func TestTranslationsReverse(t *testing.T) {
	s := newTranslatingStage(t)
	s.translate(t, "10.0.0.2:53", "10.0.0.1:4000", "10.0.0.9:53", "10.0.0.1:4000")
	s.send(t, s.udp(t, 4000, 53, 10))
	s.at(t, time.Minute)
	_, all, flows := s.others(t)
	const reply = "10.0.0.1:4000>10.0.0.2:53"
	require.Equal(t, map[string][2]string{reply: {"", "10.0.0.1:4000>10.0.0.9:53"}}, all)
	require.Zero(t, flows[reply+" other"], "it was not seen")
	s.balanced(t)
}

// TestTranslationsNotSupported: the reason is told, and the agent goes on.
func TestTranslationsNotSupported(t *testing.T) {
	p := newPair(t)
	const events = "/proc/sys/net/netfilter/nf_conntrack_events"
	err := ifaces.Do(p.far, func() error { return os.WriteFile(events, []byte("0"), 0) })
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("skipped: the kernel tracks no connections: %v", err)
	}
	require.NoError(t, err)
	cfg := p.watching(t)
	cfg.Features = []string{FeatureNAT}
	var log bytes.Buffer
	a, err := New(cfg, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Contains(t, log.String(), `msg=feature name=nat state="cannot run here" reason="connection `+
		`tracking sends no events: net.netfilter.nf_conntrack_events is 0"`)
	stop := run(t, a)
	p.send(t, p.udp(t, 1, 2, 0))
	require.NoError(t, stop())
}
