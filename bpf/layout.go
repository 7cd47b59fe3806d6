package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// layout is the number of the layout of what is pinned. It grows with every change of a pinned map
// that an agent without the change would misread; the one before goes to layouts then.
const layout = 3

// layouts are the older ones whose state an agent takes over. What fields there are, and where, the
// kernel tells (BTF); here is what it does not.
var layouts = map[int]struct {
	reasons []string // of hook_stats.lost, in its order
}{
	2: {reasons: []string{
		"ethernet-header", "vlan-depth", "not-ip", "ipv4-header", "ipv4-length", "ipv6-header",
		"ipv6-length", "ipv6-extension", "fragment", "tcp-header", "udp-header", "sctp-header",
		"icmp-header", "icmp-cited", "mid-stream", "table-full", "ring-full", "no-hook",
		"filter", "sampling",
	}},
}

// ErrLayout is in the errors of a pin folder that holds what this agent cannot take over.
var ErrLayout = errors.New("the pin folder is not for this agent")

// folderOf is where a layout is pinned, below Options.Pin. A BPF file system has no names with dots.
func folderOf(layout int) string { return "v" + strconv.Itoa(layout) }

// doneSuffix marks the folder of a layout of which nothing is left to take over.
const doneSuffix = "-done"

// olderLayout finds the layout in a pin folder that is to be taken over; 0: none is. It refuses what
// it cannot take over.
func olderLayout(pin string) (int, error) {
	all, err := os.ReadDir(pin)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("read the pin folder: %w", err)
	}
	var found []int
	for _, f := range all {
		n, err := strconv.Atoi(strings.TrimPrefix(f.Name(), "v"))
		if err != nil || f.Name() != folderOf(n) || n == layout {
			continue
		}
		found = append(found, n)
	}
	slices.Sort(found)
	if len(found) == 0 {
		return 0, nil
	}
	last := found[len(found)-1]
	at := filepath.Join(pin, folderOf(last))
	if last > layout {
		return 0, fmt.Errorf("%w: %s is of layout %d, this agent's is %d: start the newer agent that made "+
			"it and end it in order, which reports all connections; or remove the folder, which forgets them",
			ErrLayout, at, last, layout)
	}
	if _, known := layouts[last]; !known || len(found) > 1 {
		return 0, fmt.Errorf("%w: %s is of layout %d, this agent takes over one folder of layout %s: start "+
			"the agent that made it and end it in order, which reports all connections; or remove the folder, "+
			"which forgets them", ErrLayout, filepath.Join(pin, folderOf(found[0])), found[0], knownLayouts())
	}
	return last, nil
}

func knownLayouts() string {
	var all []string
	for n := layout - 1; n > 0; n-- {
		if _, known := layouts[n]; known {
			all = append(all, strconv.Itoa(n))
		}
	}
	return strings.Join(all, " or ")
}
