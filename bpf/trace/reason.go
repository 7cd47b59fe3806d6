package trace

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// reasons knows the running kernel's drop reasons by name. The upper half of a reason is its
// subsystem, 0 for the network core (SKB_DROP_REASON_SUBSYS_SHIFT in include/net/dropreason.h).
type reasons struct {
	told   bool      // the tracepoint tells the reason
	noDrop [2]uint32 // values that mean that the packet was no drop
	names  map[uint32]string
	// subsystems finds the enumerations of the subsystems, which may be in modules. It is
	// called when a value without a name turns up: reading all types takes a second or two.
	subsystems func() []*btf.Enum
}

const (
	coreReasons   = "skb_drop_reason" // the enum, since 5.17
	reasonSuffix  = "_drop_reason"    // of the subsystems' enums, since 6.4
	subsystemMask = 0xffff0000

	noReason     = "unknown"
	noSuchReason = ^uint32(0)
)

func readReasons(types *btf.Spec, args []btf.Type) *reasons {
	r := &reasons{names: map[uint32]string{}, noDrop: [2]uint32{noSuchReason, noSuchReason},
		subsystems: subsystemReasons}
	if len(args) <= reasonArgument {
		return r
	}
	core, ok := args[reasonArgument].(*btf.Enum)
	if !ok || core.Name != coreReasons {
		return r
	}
	r.told = true
	r.add(core)
	return r
}

// add learns the names of an enumeration.
func (r *reasons) add(e *btf.Enum) {
	for _, v := range e.Values {
		value := uint32(v.Value)
		switch v.Name {
		case "SKB_NOT_DROPPED_YET":
			r.noDrop[0] = value
			continue
		case "SKB_CONSUMED":
			r.noDrop[1] = value
			continue
		}
		// Of two names for one value, the first. What a subsystem's enum has below the
		// subsystem's range is not a reason.
		if _, ok := r.names[value]; !ok && (e.Name == coreReasons || value&subsystemMask != 0) {
			r.names[value] = reasonName(v.Name)
		}
	}
}

// name returns the name of a reason.
func (r *reasons) name(value uint32) string {
	if !r.told {
		return noReason
	}
	if _, ok := r.names[value]; !ok {
		if value&subsystemMask != 0 {
			for _, e := range r.subsystems() {
				r.add(e)
			}
		}
		if _, ok := r.names[value]; !ok {
			r.names[value] = fmt.Sprintf("reason-%#x", value) // searched for only once
		}
	}
	return r.names[value]
}

// reasonName makes SKB_DROP_REASON_NO_SOCKET no-socket, and OVS_DROP_LAST_ACTION ovs-last-action.
func reasonName(symbol string) string {
	s := strings.TrimLeft(symbol, "_")
	s = strings.TrimPrefix(s, "SKB_DROP_REASON_")
	for _, infix := range []string{"_DROP_REASON_", "_DROP_"} {
		s = strings.Replace(s, infix, "_", 1)
	}
	return strings.ToLower(strings.ReplaceAll(s, "_", "-"))
}

// subsystemReasons returns the enumerations of all subsystems, of the kernel and its modules.
func subsystemReasons() []*btf.Enum {
	cache := btf.NewCache()
	var all []*btf.Enum
	if kernel, err := cache.Kernel(); err == nil {
		all = reasonEnums(kernel)
	}
	modules, err := cache.Modules()
	if err != nil {
		return all // a name less
	}
	for _, m := range modules {
		if types, err := cache.Module(m); err == nil {
			all = append(all, reasonEnums(types)...)
		}
	}
	return all
}

func reasonEnums(types *btf.Spec) []*btf.Enum {
	var all []*btf.Enum
	for t, err := range types.All() {
		if err != nil {
			break
		}
		e, ok := t.(*btf.Enum)
		if ok && e.Name != coreReasons && strings.HasSuffix(e.Name, reasonSuffix) {
			all = append(all, e)
		}
	}
	return all
}
