package golden

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/result"
)

// Conservation checks the first law, in packets and in bytes:
//
//   - at every hook, seen = accounted + observed + left out + lost;
//   - all flows together = all that was accounted;
//   - with a witness, each hook has seen what the witness has.
//
// flows are all that was reported, before any value was made free. A nil witness means that
// there was none; a hook that only one side knows of has seen nothing on the other.
func Conservation(hooks map[flow.Hook]model.Counters, flows []Flow,
	witness map[flow.Hook]model.Count) []result.Difference {
	var found []result.Difference
	var accounted model.Count
	for _, hook := range sortedHooks(hooks) {
		c := hooks[hook]
		accounted = accounted.Plus(c.Accounted)
		found = append(found, balance("invariant",
			hook.String()+": seen = accounted + observed + left out + lost", c.Seen, c.Outcomes())...)
	}
	found = append(found, balance("invariant", "all flows = accounted",
		accounted, reported(flows))...)
	if witness == nil {
		return found
	}
	union := map[flow.Hook]bool{}
	for hook := range hooks {
		union[hook] = true
	}
	for hook := range witness {
		union[hook] = true
	}
	for _, hook := range sortedHooks(union) {
		found = append(found, balance("witness", hook.String()+": seen = what the witness saw",
			witness[hook], hooks[hook].Seen)...)
	}
	return found
}

// sortedHooks returns the keys in the order of their names.
func sortedHooks[V any](hooks map[flow.Hook]V) []flow.Hook {
	return slices.SortedFunc(maps.Keys(hooks), func(a, b flow.Hook) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.Direction, b.Direction))
	})
}

// reported adds up all flows.
func reported(flows []Flow) model.Count {
	var sum model.Count
	for _, f := range flows {
		sum = sum.Plus(model.Count{Packets: f.Packets.Value, Bytes: f.Bytes.Value})
	}
	return sum
}

// balance compares the two sides of a rule.
func balance(against, rule string, want, got model.Count) []result.Difference {
	var fields []result.Field
	add := func(name string, want, got uint64) {
		if want != got {
			fields = append(fields, result.Field{Name: name,
				Want: strconv.FormatUint(want, 10), Got: strconv.FormatUint(got, 10)})
		}
	}
	add("packets", want.Packets, got.Packets)
	add("bytes", want.Bytes, got.Bytes)
	if fields == nil {
		return nil
	}
	return []result.Difference{{Section: "conservation", Against: against, Kind: kindDiffers,
		Record: rule, Fields: fields}}
}
