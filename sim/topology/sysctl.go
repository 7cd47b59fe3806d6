package topology

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// sysctls sets the switches of the namespace that the thread is in. They are set before there
// is an interface, so that interfaces are born with them.
func (h *host) sysctls() error {
	v6 := h.spec.Stack && h.spec.Has(6)
	_, err := os.Stat("/proc/sys/net/ipv6")
	has6 := err == nil
	if v6 && !has6 {
		return &Unsupported{Feature: "ipv6", Err: err}
	}
	if !v6 && has6 {
		if err := set("ipv6/conf/all/disable_ipv6", "1"); err != nil {
			return err
		}
	}
	if !h.spec.Stack {
		return nil
	}
	for _, s := range h.switches(v6) {
		if err := set(s.key, s.value); err != nil {
			return err
		}
	}
	// Last, and not here: see forward6.
	if v6 && h.spec.Forward {
		h.router, err = os.OpenFile("/proc/sys/net/ipv6/conf/all/forwarding", os.O_WRONLY, 0)
	}
	return err
}

type setting struct{ key, value string }

func (h *host) switches(v6 bool) []setting {
	s := []setting{
		{"ipv4/ip_forward", boolSwitch(h.spec.Forward)},
		// "all" and the interface's own are combined by maximum: both must be off.
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/default/send_redirects", "0"},
		// An ICMP error that is due is sent, however fast they come.
		{"ipv4/icmp_ratelimit", "0"},
	}
	if !v6 {
		return s
	}
	return append(s,
		setting{"ipv6/conf/default/accept_ra", "0"},
		setting{"ipv6/conf/default/accept_dad", "0"},
		setting{"ipv6/conf/default/dad_transmits", "0"},
		setting{"ipv6/conf/default/autoconf", "0"},
		setting{"ipv6/conf/default/router_solicitations", "0"},
		setting{"ipv6/conf/default/addr_gen_mode", "1"}, // no link-local address
		setting{"ipv6/icmp/ratelimit", "0"},
	)
}

func boolSwitch(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

func set(key, value string) error {
	f, err := os.OpenFile("/proc/sys/net/"+key, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set sysctl net/%s to %s: %w", key, value, err)
	}
	return nil
}

// settings sets what the scenario names. The points in a name are those of its path.
func (n *Network) settings(h *host) error {
	if len(h.spec.Sysctls) == 0 {
		return nil
	}
	return n.Do(h.spec.Name, func() error {
		for _, s := range h.spec.Sysctls {
			key := strings.ReplaceAll(strings.TrimPrefix(s.Name, "net."), ".", "/")
			if err := set(key, s.Value); err != nil {
				return err
			}
		}
		return nil
	})
}

// forward6 makes the host an IPv6 router. A router joins the all-routers group on its
// interfaces and reports that on the wire, unless they are not MULTICAST by then; so this comes
// after queueUp, through a file that was opened inside the namespace.
func (h *host) forward6() error {
	if h.router == nil {
		return nil
	}
	if _, err := h.router.WriteString("1"); err != nil {
		return fmt.Errorf("forward ipv6: %w", err)
	}
	return nil
}
