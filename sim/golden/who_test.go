package golden

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/sim/model"
)

var (
	webLabels = &flow.Labels{Kind: flow.KindPod, Namespace: "shop", Pod: "web", Node: "n1", Zone: "a"}
	farLabels = &flow.Labels{Kind: flow.KindInternet}
)

func labelledFlows() []model.Flow {
	f := modelFlows()[:1]
	f[0].SrcLabels, f[0].DstLabels = webLabels, farLabels
	f[0].Service, f[0].Class = "shop/db", "PUBLIC_INTERNET"
	f[0].LabelFlags = flow.FlagMirror | flow.FlagAmbiguous
	return f
}

func TestLabelled(t *testing.T) {
	n := testNames()
	g := &Golden{Flows: ModelFlows(labelledFlows(), n), Labels: n.ModelOwners(labelledFlows())}
	text := string(Encode(g))
	require.Contains(t, text, "from: pod shop/web, to: internet, service: shop/db, class: PUBLIC_INTERNET, "+
		"remarks: ambiguous|mirror, seen")
	require.Contains(t, text, "  pod shop/web: {kind: pod, namespace: shop, node: n1, pod: web, zone: a}\n")
	require.NotContains(t, text, "  internet:", "its name says all")
	back, err := Decode("x.yaml", []byte(text))
	require.NoError(t, err)
	require.Empty(t, Compare(back, g, "golden"))

	record := flow.Record{SrcLabels: webLabels, DstLabels: farLabels, Service: "shop/db",
		Class: "PUBLIC_INTERNET", LabelFlags: flow.FlagMirror | flow.FlagAmbiguous}
	require.Equal(t, g.Flows[0].Who, whoIsAt(&record))
	require.Equal(t, g.Labels, n.RecordOwners([]flow.Record{record}))
}

// TestLabelDifference: each part of the labels is compared.
func TestLabelDifference(t *testing.T) {
	n := testNames()
	real := &Golden{Flows: ModelFlows(labelledFlows(), n), Labels: n.ModelOwners(labelledFlows())}
	for field, change := range map[string]func(*Who){
		"from": func(w *Who) { w.From = "private" }, "to": func(w *Who) { w.To = "" },
		"service": func(w *Who) { w.Service = "" }, "class": func(w *Who) { w.Class = "SAME_HOST" },
		"unlabelled": func(w *Who) { w.Unlabelled = "no-place" }, "remarks": func(w *Who) { w.Remarks = "" },
	} {
		other := &Golden{Flows: ModelFlows(labelledFlows(), n), Labels: real.Labels}
		change(&other.Flows[0].Who)
		diffs := Compare(real, other, "golden")
		require.Len(t, diffs, 1, field)
		require.Equal(t, field, diffs[0].Fields[0].Name)
	}
	other := &Golden{Flows: real.Flows, Labels: n.Labels()}
	require.NotEmpty(t, Compare(real, other, "golden"), "an owner is missing")
}

func TestLabelsThatDoNotExist(t *testing.T) {
	for text, want := range map[string]string{
		"class: NEAR": `"NEAR" is none of the classes`, "unlabelled: why": `"why" is none of the reasons`,
		"remarks: odd": "unknown label flag", `remarks: ""`: "no remarks",
	} {
		_, err := Decode("x.yaml", []byte(with("a:1", "a:1, "+text)))
		require.ErrorContains(t, err, want)
	}
}
