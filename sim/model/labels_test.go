package model

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/agent/flow"
	"github.com/weirnet/weir/agent/labeler/static"
)

func town(t *testing.T) *Cluster {
	t.Helper()
	c, err := NewCluster(ClusterConfig{Node: "n1", Cluster: "c", Clusters: []ClusterObjects{{Name: "c", File: static.File{
		Nodes: map[string]static.Node{"n1": {Addresses: []string{"10.9.0.1"}, Zone: "a", Region: "r"},
			"n2": {Addresses: []string{"10.9.0.2"}, Zone: "b", Region: "r"}},
		Pods: map[string]static.Pod{
			"s/web": {Node: "n1", Addresses: []string{"10.0.0.1"}},
			"s/old": {Node: "n2", Addresses: []string{"10.0.0.2"}, To: "20ns"},
			"s/new": {Node: "n2", Addresses: []string{"10.0.0.2"}, From: "30ns", Told: "50ns"},
		},
		Services: map[string]static.Service{"s/db": {Addresses: []string{"10.96.0.1"}, Ports: []string{"80:30080/tcp"},
			Backends: []string{"10.0.0.2:8080/tcp"}}},
	}}}, Ranges: []agent.OwnRange{{CIDR: "8.0.0.0/8", Name: "wide"}, {CIDR: "8.8.0.0/16", Name: "near", Class: "intra_zone"}}})
	require.NoError(t, err)
	return c
}

func TestClusterLabel(t *testing.T) {
	c := town(t)
	for name, tt := range map[string]struct {
		src, dst          string
		start, end, write int64
		role              flow.Role
		from, to, service string
		class, why        string
		flags             flow.LabelFlags
	}{
		"first owner": {src: "10.0.0.1:1", dst: "10.0.0.2:9", start: 5, end: 15, write: 100,
			from: "pod s/web", to: "pod s/old", class: interZone},
		"after its end, begun before": {src: "10.0.0.1:1", dst: "10.0.0.2:9", start: 5, end: 25, write: 100,
			from: "pod s/web", to: "pod s/old", class: interZone},
		"between two": {src: "10.0.0.1:1", dst: "10.0.0.2:9", start: 22, end: 25, write: 100,
			from: "pod s/web", to: "unknown", class: unknownWay, why: pastOwner},
		"not told yet": {src: "10.0.0.1:1", dst: "10.0.0.2:9", start: 35, end: 40, write: 45,
			from: "pod s/web", to: "unknown", class: unknownWay, why: pastOwner},
		"told late": {src: "10.0.0.1:1", dst: "10.0.0.2:9", start: 35, end: 40, write: 55,
			from: "pod s/web", to: "pod s/new", class: interZone},
		"backend": {src: "10.0.0.1:1", dst: "10.0.0.2:8080", start: 1, end: 5, write: 10, from: "pod s/web",
			to: "pod s/old", service: "s/db", class: interZone, flags: flow.FlagServiceInferred},
		"service": {src: "10.0.0.1:1", dst: "10.96.0.1:80", start: 1, end: 5, write: 10, from: "pod s/web",
			to: "service s/db", service: "s/db", class: intraVPC},
		"its reply": {src: "10.96.0.1:80", dst: "10.0.0.1:1", start: 1, end: 5, write: 10, role: flow.RoleResponder,
			from: "service s/db", to: "pod s/web", service: "s/db", class: intraVPC},
		"a node's port": {src: "9.9.9.9:1", dst: "10.9.0.1:30080", start: 1, end: 5, write: 10,
			from: "internet", to: "node n1", service: "s/db", class: internet},
		"mirror": {src: "10.9.0.2:1", dst: "10.0.0.1:9", start: 1, end: 5, write: 10, from: "node n2",
			to: "pod s/web", class: interZone, flags: flow.FlagMirror},
		"longest range": {src: "10.0.0.1:1", dst: "8.8.0.1:9", start: 1, end: 5, write: 10, from: "pod s/web",
			to: "range near", class: intraZone},
		"wide range": {src: "10.0.0.1:1", dst: "8.9.0.1:9", start: 1, end: 5, write: 10, from: "pod s/web",
			to: "range wide", class: internet},
		"private": {src: "10.0.0.1:1", dst: "192.168.0.1:9", start: 1, end: 5, write: 10, from: "pod s/web",
			to: "private", class: privateOther},
	} {
		src, dst := netip.MustParseAddrPort(tt.src), netip.MustParseAddrPort(tt.dst)
		f := Flow{Src: src.Addr(), Dst: dst.Addr(), SrcPort: src.Port(), DstPort: dst.Port(), Protocol: protoTCP,
			Role: tt.role, Start: tt.start, End: tt.end, Written: tt.write}
		if f.Role == "" {
			f.Role = flow.RoleInitiator
		}
		c.Label(&f)
		require.Equal(t, tt.from, f.SrcLabels.String(), name)
		require.Equal(t, tt.to, f.DstLabels.String(), name)
		require.Equal(t, tt.service, f.Service, name)
		require.Equal(t, tt.class, f.Class, name)
		require.Equal(t, tt.why, f.Unlabelled, name)
		require.Equal(t, tt.flags, f.LabelFlags, name)
	}
}

func TestNoCluster(t *testing.T) {
	f := Flow{}
	(*Cluster)(nil).Label(&f)
	require.Zero(t, f)
}
