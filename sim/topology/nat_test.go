package topology

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/bpf/kerneltest"
)

const translated = `
  client: {eth0: [10.0.0.1/24, fd00:0:0:1::1/64], stack: kernel}
  router:
    forward: true
    eth0: [10.0.0.254/24, fd00:0:0:1::fe/64]
    eth1: [10.1.0.254/24, fd00:0:0:2::fe/64]
    nat:
      - masquerade out eth1
      - snat out eth0 to 10.0.0.254
      - dnat tcp 203.0.113.1:8080 to 10.1.0.2:8080
      - "dnat tcp [2001:db8::1]:8080 to [fd00:0:0:2::2]:8080"
      - nodeport tcp 8080 to 10.1.0.2:8080
  server: {eth0: [10.1.0.2/24, fd00:0:0:2::2/64], stack: kernel}
  links: [client/eth0 - router/eth0, router/eth1 - server/eth0]
agent: {on: [server/eth0]}`

// buildTranslated skips the test where the kernel cannot translate.
func buildTranslated(t *testing.T) *Network {
	t.Helper()
	kerneltest.NeedRoot(t)
	n, err := Build(parse(t, translated), Options{})
	var missing *Unsupported
	if errors.As(err, &missing) && missing.Feature == "nat" {
		t.Skipf("skipped: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// TestTranslate talks through each rule that changes the destination.
func TestTranslate(t *testing.T) {
	n := buildTranslated(t)
	for at, server := range map[string]string{
		"203.0.113.1": "10.1.0.2", "2001:db8::1": "fd00:0:0:2::2",
		"10.0.0.254": "10.1.0.2", "10.1.0.254": "10.1.0.2",
	} {
		talk(t, n, ends{"client", "server"}, netip.MustParseAddr(at), netip.MustParseAddr(server))
	}
}

// TestTranslateRules counts what is in the kernel: a node port has a rule for each address.
func TestTranslateRules(t *testing.T) {
	n := buildTranslated(t)
	c, err := nftables.New(nftables.WithNetNSFd(int(n.NS("router"))))
	require.NoError(t, err)
	chains, err := c.ListChains()
	require.NoError(t, err)
	rules := map[string]int{}
	for _, chain := range chains {
		list, err := c.GetRules(chain.Table, chain)
		require.NoError(t, err)
		rules[chain.Table.Name+" "+chain.Name] = len(list)
	}
	require.Equal(t, map[string]int{"weir prerouting": 4, "weir postrouting": 2}, rules)
}

func TestNATErrors(t *testing.T) {
	require.NoError(t, natError(nil))
	var missing *Unsupported
	for _, err := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.ENOENT} {
		require.ErrorAs(t, natError(fmt.Errorf("flush: %w", err)), &missing)
		require.Equal(t, "nat", missing.Feature)
	}
	require.NotErrorAs(t, natError(unix.EPERM), &missing)
	require.NotErrorAs(t, natError(unix.EINVAL), &missing)
}
