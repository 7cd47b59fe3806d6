package latency

import (
	"errors"

	"github.com/weirnet/weir/bpf"
	"github.com/weirnet/weir/bpf/beside"
)

// The names of the features.
const (
	FeatureDNS       = "dns"
	FeatureHandshake = "handshake"
)

// Features lists the names of all features.
func Features() []string { return []string{FeatureDNS, FeatureHandshake} }

// Places are where the features stand on hooks, by name.
var places = map[string]bpf.Place{
	FeatureDNS:       {Name: "weir_dns", Priority: 0xbef0, Handle: 0x77656964 /* "weid" */},
	FeatureHandshake: {Name: "weir_handshake", Priority: 0xbef1, Handle: 0x77656968 /* "weih" */},
}

// Options say how a feature is loaded. Max is how many transactions or handshakes are followed at a time: one
// takes some 400 bytes of DNS, 120 of handshakes.
type Options = beside.Options

// Probe finds out whether a feature can run on this kernel, by loading it for a moment. It needs
// the rights that opening it needs.
func Probe(name string) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// VerifierEffort returns how many instructions the kernel's verifier walks for a feature's program, by
// loading it for a moment.
func VerifierEffort(name string) (int, error) {
	f, err := open(name)
	if err != nil {
		return 0, err
	}
	n, err := f.Walked()
	return n, errors.Join(err, f.Close())
}

// feature is one of either.
type feature interface {
	Walked() (int, error)
	Close() error
}

// open opens a feature that nothing is to be seen by.
func open(name string) (feature, error) {
	if name == FeatureDNS {
		return OpenDNS(nil, Options{Max: 1})
	}
	return OpenHandshake(Options{Max: 1})
}

// Remove removes the tc filter that a feature of a killed agent may have left on a hook. It must be
// called in the hook's network namespace, on a locked thread.
func Remove(name string, h bpf.Hook) error { return bpf.RemoveBeside(h, places[name]) }
