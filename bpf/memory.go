package bpf

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
)

// MapMemory returns how many bytes the kernel says that each map takes. Kernels reckon differently.
func (d *Datapath) MapMemory() (map[string]uint64, error) {
	all := map[string]uint64{}
	maps := reflect.ValueOf(d.objs.weirMaps)
	for i := range maps.NumField() {
		name := maps.Type().Field(i).Tag.Get("ebpf")
		info, err := maps.Field(i).Interface().(*ebpf.Map).Info()
		if err != nil {
			return nil, fmt.Errorf("ask for the size of map %s: %w", name, err)
		}
		all[name], _ = info.Memlock()
	}
	return all, nil
}
