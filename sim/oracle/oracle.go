// Package oracle holds weir's connection table against the kernel's own connection tracking,
// nf_conntrack, of a host that all packets pass.
package oracle

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/nat"
)

// table is the name of our table in nftables.
const table = "weir-oracle"

// Enable switches connection tracking on in the calling thread's network namespace, with counts. What
// the kernel tracks is kept for an hour, as nothing of it follows a scenario's clock.
func Enable() error {
	if err := track(); err != nil {
		return fmt.Errorf("switch connection tracking on: %w", err)
	}
	for _, s := range []struct{ name, value string }{
		{"acct", "1"},
		{"tcp_timeout_last_ack", "3600"},
		{"tcp_timeout_close", "3600"},
		{"udp_timeout", "3600"},
		{"icmp_timeout", "3600"},
		{"icmpv6_timeout", "3600"},
	} {
		file := "/proc/sys/net/netfilter/nf_conntrack_" + s.name
		if err := os.WriteFile(file, []byte(s.value), 0); err != nil {
			return fmt.Errorf("set connection tracking up: %w", err)
		}
	}
	return nil
}

// track makes a rule that needs connection tracking: as long as it stands, the kernel tracks. It would
// masquerade what leaves by an interface without a name, and there is none.
func track() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: table})
	chain := c.AddChain(&nftables.Chain{Table: t, Name: "postrouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	const register = 1
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: make([]byte, unix.IFNAMSIZ)},
		&expr.Masq{},
	}})
	return c.Flush()
}

// Probe tells whether this kernel can be asked; it is for a namespace that is thrown away.
func Probe() (bool, error) {
	err := Enable()
	if err == nil {
		_, err = nat.Dump()
	}
	for _, missing := range []error{unix.EPROTONOSUPPORT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENOENT, unix.EINVAL} {
		if errors.Is(err, missing) {
			return false, nil
		}
	}
	return err == nil, err
}
