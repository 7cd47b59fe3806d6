package golden

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler"
	"github.com/weirnet/weir/sim/model"
)

// whoIsAt is the canonical form of a record's labels.
func whoIsAt(r *flow.Record) Who {
	return Who{From: r.SrcLabels.String(), To: r.DstLabels.String(), Service: r.Service, Class: r.Class,
		Unlabelled: r.Unlabelled, Remarks: r.LabelFlags.String()}
}

// modelled is the canonical form of what the reference model says.
func modelled(f *model.Flow) Who {
	return Who{From: f.SrcLabels.String(), To: f.DstLabels.String(), Service: f.Service, Class: f.Class,
		Unlabelled: f.Unlabelled, Remarks: f.LabelFlags.String()}
}

// RecordOwners adds the owners of addresses that records name to the labels of hosts.
func (n *Names) RecordOwners(records []flow.Record) map[string]map[string]string {
	all := n.Labels()
	for i := range records {
		own(all, records[i].SrcLabels)
		own(all, records[i].DstLabels)
	}
	return all
}

// ModelOwners adds those that the reference model's flows name.
func (n *Names) ModelOwners(flows []model.Flow) map[string]map[string]string {
	all := n.Labels()
	for i := range flows {
		own(all, flows[i].SrcLabels)
		own(all, flows[i].DstLabels)
	}
	return all
}

// own adds an owner with all its labels, unless its name says all of them.
func own(all map[string]map[string]string, l *flow.Labels) {
	if l == nil || *l == (flow.Labels{Kind: l.Kind}) {
		return
	}
	var fields map[string]string
	text, err := json.Marshal(l)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		fields = map[string]string{"error": err.Error()}
	}
	all[l.String()] = fields
}

func isClass(s string) error {
	if !slices.ContainsFunc(labeler.Classes(), func(c labeler.ConnectionClass) bool { return c.String() == s }) {
		return fmt.Errorf("%q is none of the classes %v", s, labeler.Classes())
	}
	return nil
}

func isUnlabelled(s string) error {
	if !slices.ContainsFunc(labeler.Reasons(), func(r labeler.Reason) bool { return r.String() == s }) {
		return fmt.Errorf("%q is none of the reasons %v", s, labeler.Reasons())
	}
	return nil
}

func isRemarks(s string) error {
	if s == "" || strings.HasPrefix(s, "|") {
		return fmt.Errorf("%q are no remarks", s)
	}
	return new(flow.LabelFlags).UnmarshalText([]byte(s))
}
