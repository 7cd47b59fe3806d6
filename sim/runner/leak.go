package runner

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weirnet/weir/sim/result"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/topology"
)

// leakPatience is how long what has ended may take to let everything go.
const leakPatience = 2 * time.Second

// holdings is what this process holds, by kind.
type holdings map[string]int

// holds counts open files by kind, and network namespaces that are this process's.
func holds() (holdings, error) {
	h := holdings{}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("list open files: %w", err)
	}
	for _, f := range files {
		target, err := os.Readlink("/proc/self/fd/" + f.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // that of the list itself
		}
		if err != nil {
			return nil, fmt.Errorf("look at open files: %w", err)
		}
		h[kindOfFile(target)]++
	}
	names, err := filepath.Glob(fmt.Sprintf("%s/weir-%d-*", topology.DefaultNetnsDir, os.Getpid()))
	if err != nil {
		return nil, err
	}
	h["named namespaces"] = len(names)
	return h, nil
}

// kindOfFile is what a descriptor's target in /proc is, as people call it.
func kindOfFile(target string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(target, "anon_inode:"), ":")
	switch kind = strings.Trim(kind, "[]"); {
	case kind == "bpf-map":
		return "BPF maps"
	case kind == "bpf-prog":
		return "BPF programs"
	case kind == "bpf_link", kind == "bpf-link":
		return "BPF links"
	case kind == "net":
		return "network namespaces"
	case kind == "socket":
		return "sockets"
	case strings.HasPrefix(kind, "/"):
		return "files"
	}
	return kind
}

// leaked is what is held now and was not before, once there was time to let it go. The files of Go's
// runtime are not looked at: it opens them when it first needs them.
func leaked(before holdings) ([]result.Difference, error) {
	for deadline := time.Now().Add(leakPatience); ; time.Sleep(time.Millisecond) {
		now, err := holds()
		if err != nil {
			return nil, err
		}
		var fields []result.Field
		for _, kind := range slices.Sorted(maps.Keys(now)) {
			if now[kind] > before[kind] && kind != "eventpoll" && kind != "eventfd" {
				fields = append(fields, result.Field{Name: kind, Want: strconv.Itoa(before[kind]), Got: strconv.Itoa(now[kind])})
			}
		}
		if fields == nil {
			return nil, nil
		}
		if time.Now().After(deadline) {
			return []result.Difference{leak("what the runner holds when the scenario is over", fields...)}, nil
		}
	}
}

func leak(what string, fields ...result.Field) result.Difference {
	return result.Difference{Section: "leaks", Against: "invariant", Kind: "differs", Record: what, Fields: fields}
}

// leftBehind is what an agent that has ended in order has left on the interfaces that it watched, or pinned.
func (p *play) leftBehind() (found []result.Difference, err error) {
	for _, on := range p.sc.Agent.On {
		if p.gone[on] {
			continue
		}
		fields, err := p.attachments(on)
		if err != nil {
			return nil, fmt.Errorf("look for what is left on %s: %w", on, err)
		}
		if len(fields) > 0 {
			found = append(found, leak(on.String()+" after the agent's end", fields...))
		}
	}
	if _, err := os.Stat(p.pin()); err == nil {
		found = append(found, leak("pins after the agent's end", result.Field{Name: "folder", Got: p.pin()}))
	}
	return found, nil
}

// attachments are the BPF programs on an interface, and filters. The qdisc that holds
// filters stays by design: others may use it. Nobody but the agent puts any there.
func (p *play) attachments(on spec.Port) (fields []result.Field, err error) {
	index := p.sc.Topology.Host(on.Host).Interface(on.Interface).Index
	err = p.net.Do(on.Host, func() error {
		for name, attach := range map[string]ebpf.AttachType{
			"tcx ingress": ebpf.AttachTCXIngress, "tcx egress": ebpf.AttachTCXEgress, "netkit": ebpf.AttachNetkitPrimary,
		} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: attach})
			if err != nil { // the kernel has no such hook, or the interface none of that kind
				continue
			}
			if n := len(r.Programs); n > 0 {
				fields = append(fields, result.Field{Name: name, Want: "0", Got: strconv.Itoa(n)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	handle, err := p.net.Handle(on.Host)
	if err != nil {
		return nil, err
	}
	for name, parent := range map[string]uint32{
		"tc ingress": netlink.HANDLE_MIN_INGRESS, "tc egress": netlink.HANDLE_MIN_EGRESS,
	} {
		filters, err := handle.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, parent)
		if err != nil {
			return nil, fmt.Errorf("list filters: %w", err)
		}
		if n := len(filters); n > 0 {
			fields = append(fields, result.Field{Name: name, Want: "0", Got: strconv.Itoa(n)})
		}
	}
	slices.SortFunc(fields, func(a, b result.Field) int { return strings.Compare(a.Name, b.Name) })
	return fields, nil
}
