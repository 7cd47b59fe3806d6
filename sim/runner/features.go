package runner

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent"
	"github.com/weirnet/weir/bpf/latency"
	"github.com/weirnet/weir/bpf/sockets"
	"github.com/weirnet/weir/bpf/trace"
	"github.com/weirnet/weir/sim/model"
	"github.com/weirnet/weir/sim/spec"
	"github.com/weirnet/weir/sim/topology"
)

// canRun finds out whether the kernel has what the scenario's features need, in full: a golden file is the
// same for all kernels.
func (p *play) canRun() error {
	for _, name := range p.sc.Agent.Features {
		err := p.runner.lacks(name)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrPermission) || !canLack(name):
			return fmt.Errorf("feature %s: %w", name, err)
		default:
			return &topology.Unsupported{Feature: "feature " + name, Err: err}
		}
	}
	return nil
}

// canLack tells whether a kernel may lack what a feature needs, on which the topology stands: what tracing
// needs, and control groups.
func canLack(feature string) bool {
	return slices.Contains(trace.Features(), feature) || feature == sockets.Feature
}

// lacks is why a feature cannot run in full; nil when it can. The kernel is asked once, for that means
// to load the feature.
func (r *Runner) lacks(feature string) error {
	err, known := r.features[feature]
	if known {
		return err
	}
	note, err := agent.ProbeFeature(feature)
	if err == nil && note != "" {
		err = errors.New(note)
	}
	r.features[feature] = err
	return err
}

// addFeatures adds what the verifier walks for the programs of features. A kernel may lack what tracing
// needs: the scenarios of such a feature say so.
func addFeatures(all map[string]int) error {
	for _, name := range latency.Features() {
		n, err := latency.VerifierEffort(name)
		if err != nil {
			return fmt.Errorf("feature %s: %w", name, err)
		}
		all["weir_"+name] = n
	}
	n, err := sockets.VerifierEffort()
	if err != nil {
		return fmt.Errorf("feature %s: %w", sockets.Feature, err)
	}
	all["weir_"+sockets.Feature] = n
	for _, name := range trace.Features() {
		if n, err := trace.VerifierEffort(name); err == nil {
			all["weir_"+name] = n
		}
	}
	return nil
}

// dns is the agent's configuration of the feature dns.
func (p *play) dns() agent.DNS {
	d := agent.DefaultConfig().DNS
	if p.sc.Agent.DNS.Ports != nil {
		d.Ports = p.sc.Agent.DNS.Ports
	}
	if p.sc.Agent.DNS.Timeout != 0 {
		d.Timeout = p.sc.Agent.DNS.Timeout
	}
	return d
}

// latency is to the model what the features are to the agent.
func (p *play) latency() model.Latency {
	d := p.dns()
	return model.Latency{DNS: slices.Contains(p.sc.Agent.Features, latency.FeatureDNS),
		Ports: d.Ports, Timeout: d.Timeout,
		Handshakes: slices.Contains(p.sc.Agent.Features, latency.FeatureHandshake)}
}

// namespaces finds the hosts' network namespaces.
func namespaces(sc *spec.Scenario, net *topology.Network) (map[uint64]string, error) {
	all := map[uint64]string{}
	for _, h := range sc.Topology.Hosts {
		var st unix.Stat_t
		err := unix.Stat(net.Path(h.Name), &st)
		if errors.Is(err, unix.ENOENT) {
			continue // it was deleted
		}
		if err != nil {
			return nil, fmt.Errorf("find the network namespace of %s: %w", h.Name, err)
		}
		all[st.Ino] = h.Name
	}
	return all, nil
}
