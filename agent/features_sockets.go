package agent

import (
	"cmp"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/agent/podgroup"
	"github.com/weirnet/weir/bpf/sockets"
)

// holders tell the labeler which pods hold the sockets that packets of this machine come from.
type holders struct {
	feature *sockets.Sockets
	groups  *podgroup.Tree
	failed  error  // the first one of the asking since the last drain
	lost    uint64 // directions of connections that found no room
}

// startHolders opens the feature, and has the labels ask it.
func startHolders(cfg *Config, l *labels) (*holders, error) {
	if l == nil {
		return nil, errors.New("there are no labels: the configuration tells of no cluster and no ranges")
	}
	h, err := openHolders(cfg.Labels.Cgroups, sockets.Options{Max: cfg.Table.Size, Virtual: cfg.Clock.Virtual})
	if err != nil {
		return nil, err
	}
	l.by.Sockets = h
	return h, nil
}

// openHolders opens the feature. cgroups is where control groups are mounted, or "".
func openHolders(cgroups string, o sockets.Options) (*holders, error) {
	var err error
	if cgroups == "" {
		if cgroups, err = podgroup.Mount(); err != nil {
			return nil, err
		}
	}
	groups, err := podgroup.Open(cgroups)
	if err != nil {
		return nil, err
	}
	feature, err := sockets.Open(o)
	if err != nil {
		return nil, err
	}
	return &holders{feature: feature, groups: groups}, nil
}

// probeHolders tells why sockets cannot be told apart here, or which of them.
func probeHolders() (note string, err error) {
	h, err := openHolders("", sockets.Options{Max: 1})
	if err != nil {
		return "", err
	}
	return h.note(), h.feature.Close()
}

// note is what cannot be told here.
func (h *holders) note() string {
	if h.groups.Part() {
		return "of control groups above this container's own nothing is seen: it needs the host's /sys/fs/cgroup"
	}
	return ""
}

// drain looks at the control groups that have begun to send: they may be gone when a record asks.
func (h *holders) drain() error {
	h.groups.Refresh()
	err := h.feature.Groups(func(id uint64) {
		_, _, err := h.groups.UID(id)
		h.fail(err)
	})
	lost, lerr := h.feature.Lost()
	h.lost = max(h.lost, lost)
	err = errors.Join(err, lerr, h.failed)
	h.failed = nil
	return err
}

func (h *holders) fail(err error) {
	if h.failed == nil {
		h.failed = err
	}
}

// Pod implements labeler.Sockets.
func (h *holders) Pod(r *flow.Record, reply bool) (uid string, how labeler.Sharing) {
	t := sockets.Tuple{Zone: r.Zone, Protocol: cmp.Or(r.Cites, r.Protocol),
		Src: netip.AddrPortFrom(r.Src, r.SrcPort), Dst: netip.AddrPortFrom(r.Dst, r.DstPort)}
	if reply {
		t.Src, t.Dst = t.Dst, t.Src
	}
	if t.Protocol != unix.IPPROTO_TCP && t.Protocol != unix.IPPROTO_UDP {
		return "", labeler.NoSocket
	}
	id, seen, err := h.feature.Group(t, r.End+clockSlack)
	h.fail(err)
	if !seen {
		return "", labeler.NoSocket
	}
	uid, known, err := h.groups.UID(id)
	h.fail(err)
	switch {
	case !known:
		return "", labeler.NoGroup
	case uid == "":
		return "", labeler.SharedNode
	}
	return uid, labeler.SharedPod
}
