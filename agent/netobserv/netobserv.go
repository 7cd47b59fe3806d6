// Package netobserv reads the environment variables by which the NetObserv eBPF agent is configured, and
// says what they are in weir's configuration. Each variable is mapped, is of no consequence here, or is refused with
// the reason: none is left out in silence.
package netobserv

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Translate gives weir's environment variables for those of the NetObserv agent. Variables of neither are
// passed over, as the environment is everybody's. notes tell what is different here although it is accepted.
func Translate(environ []string) (ours, notes []string, err error) {
	t := translation{vars: map[string]string{}, out: map[string]string{}}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if _, known := variables()[name]; known {
			t.vars[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.vars)) {
		if err := variables()[name](&t, name, t.vars[name]); err != nil {
			t.errs = append(t.errs, fmt.Errorf("%s=%s: %w", name, t.vars[name], err))
		}
	}
	t.sinks()
	t.anchor()
	t.out["WEIR_IDENTITY_ADDRESS"] = cmp.Or(t.vars["AGENT_IP"], t.vars["AGENT_IP_IFACE"], defaultAddress)
	t.defaults()
	for _, name := range slices.Sorted(maps.Keys(t.out)) {
		ours = append(ours, name+"="+t.out[name])
	}
	return ours, t.notes, errors.Join(t.errs...)
}

// Names lists the variables that are known, in order.
func Names() []string { return slices.Sorted(maps.Keys(variables())) }

type translation struct {
	vars     map[string]string // theirs, as they are set
	out      map[string]string // ours
	features []string
	notes    []string
	errs     []error
}

// rule takes a variable and its value.
type rule func(t *translation, name, value string) error

// variables are all of the NetObserv agent, those of old versions included.
func variables() map[string]rule {
	all := map[string]rule{
		"INTERFACES":                         interfaces("WEIR_DISCOVER_ALLOW"),
		"EXCLUDE_INTERFACES":                 interfaces("WEIR_DISCOVER_DENY"),
		"INTERFACE_IPS":                      interfaceIPs,
		"LISTEN_INTERFACES":                  listenMode,
		"LISTEN_POLL_PERIOD":                 duration("WEIR_DISCOVER_EVERY"),
		"DIRECTION":                          only("both", "weir watches both directions: a connection has two"),
		"TC_ATTACH_MODE":                     attachMode,
		"CACHE_MAX_FLOWS":                    to("WEIR_TABLE_SIZE"),
		"CACHE_ACTIVE_TIMEOUT":               activeTimeout,
		"SAMPLING":                           sampling,
		"ENABLE_RTT":                         feature("rtt"),
		"ENABLE_PKT_DROPS":                   feature("drops"),
		"ENABLE_DNS_TRACKING":                feature("dns"),
		"ENABLE_PKT_TRANSLATION":             feature("nat"),
		"DNS_TRACKING_PORT":                  to("WEIR_DNS_PORTS"),
		"AGENT_IP_TYPE":                      to("WEIR_IDENTITY_FAMILY"),
		"LOG_LEVEL":                          logLevel,
		"METRICS_ENABLE":                     metrics,
		"METRICS_TLS_CERT_PATH":              toIf("METRICS_ENABLE", "WEIR_MONITOR_TLS_CERT"),
		"METRICS_TLS_KEY_PATH":               toIf("METRICS_ENABLE", "WEIR_MONITOR_TLS_KEY"),
		"METRICS_PREFIX":                     refuse("weir's metrics are called weir_...: docs/operating.md lists them"),
		"PPROF_ADDR":                         refuse("profiles are on the control socket, at /debug/pprof/"),
		"PROFILE_PORT":                       refuse("profiles are on the control socket, at /debug/pprof/"),
		"FLP_CONFIG":                         refuse("there is no flowlogs-pipeline inside weir; send to one by EXPORT=grpc"),
		"FLOW_FILTER_RULES":                  refuse("write them as `filters` of weir's configuration file"),
		"OPENSSL_PATH":                       same("it is of ENABLE_OPENSSL_TRACKING only"),
		"EBPF_PROGRAM_MANAGER_MODE":          off("weir loads its own programs"),
		"BPFMAN_BPF_FS_PATH":                 same("it is of EBPF_PROGRAM_MANAGER_MODE only"),
		"DEDUPER":                            same(dedupes),
		"QUIC_TRACKING_MODE":                 only("0", "weir does not look into QUIC"),
		"NETWORK_EVENTS_MONITORING_GROUP_ID": same("it is of ENABLE_NETWORK_EVENTS_MONITORING only"),
		"FLOWS_TARGET_HOST":                  refuse("it is an old name of TARGET_HOST"),
		"FLOWS_TARGET_PORT":                  refuse("it is an old name of TARGET_PORT"),
		"PCA_SERVER_PORT":                    refuse("weir captures no packets"),
	}
	for _, name := range []string{"EXPORT", "TARGET_HOST", "TARGET_PORT", "TARGET_TLS_CA_CERT_PATH",
		"TARGET_TLS_USER_CERT_PATH", "TARGET_TLS_USER_KEY_PATH", "GRPC_MESSAGE_MAX_FLOWS", "GRPC_RECONNECT_TIMER",
		"METRICS_SERVER_ADDRESS", "METRICS_SERVER_PORT", "AGENT_IP", "AGENT_IP_IFACE",
		"TCX_ATTACH_ANCHOR_INGRESS", "TCX_ATTACH_ANCHOR_EGRESS"} {
		all[name] = later
	}
	for _, name := range []string{"ENABLE_PCA", "ENABLE_NETWORK_EVENTS_MONITORING", "ENABLE_UDN_MAPPING",
		"ENABLE_IPSEC_TRACKING", "ENABLE_TLS_TRACKING", "ENABLE_OPENSSL_TRACKING"} {
		all[name] = off("weir has nothing like it")
	}
	for _, name := range []string{"KAFKA_BROKERS", "KAFKA_TOPIC", "KAFKA_BATCH_MESSAGES", "KAFKA_BATCH_SIZE",
		"KAFKA_ASYNC", "KAFKA_COMPRESSION", "KAFKA_ENABLE_TLS", "KAFKA_TLS_INSECURE_SKIP_VERIFY", "KAFKA_TLS_CA_CERT_PATH",
		"KAFKA_TLS_USER_CERT_PATH", "KAFKA_TLS_USER_KEY_PATH", "KAFKA_ENABLE_SASL", "KAFKA_SASL_TYPE",
		"KAFKA_SASL_CLIENT_ID_PATH", "KAFKA_SASL_CLIENT_SECRET_PATH"} {
		all[name] = refuse("only EXPORT=grpc is translated; write other sinks as `sinks` of weir's configuration file")
	}
	for name, why := range map[string]string{
		"PREFERRED_INTERFACE_FOR_MAC_PREFIX": "interfaces are told apart by namespace and index, not by address",
		"TC_ATTACH_RETRIES":                  "an attachment that fails is an error at once",
		"BUFFERS_LENGTH":                     queues, "EXPORTER_BUFFER_LENGTH": queues,
		"GRPC_RECONNECT_TIMER_RANDOMIZATION": "a tenth of the timer, always",
		"ENABLE_FLOWS_RINGBUF_FALLBACK":      "it is what table.full=overflow does, the default",
		"STALE_ENTRIES_EVICT_TIMEOUT":        "every connection ends after the lifetime of its state",
		"FORCE_GARBAGE_COLLECTION":           memory, "ENABLE_GARBAGE_COLLECTION": memory,
		"METRICS_LEVEL":     "there is one level",
		"DEDUPER_FC_EXPIRY": dedupes, "DEDUPER_JUST_MARK": dedupes, "DEDUPER_MERGE": dedupes,
	} {
		all[name] = same(why)
	}
	return all
}

// Why variables are of no consequence.
const (
	queues  = "queues are bounded by bytes: `queue` of a sink"
	memory  = "the garbage collector needs no help"
	dedupes = "weir counts each packet once, at whichever interface sees it first; of several agents, " +
		"weir collect --dedupe leaves duplicates out"
)

// to gives the value to one of our variables.
func to(ours string) rule {
	return func(t *translation, _, value string) error {
		t.out[ours] = value
		return nil
	}
}

// toIf does so when another variable is true.
func toIf(switched, ours string) rule {
	return func(t *translation, _, value string) error {
		if on, err := truth(t.vars[switched]); err != nil || !on {
			return err
		}
		t.out[ours] = value
		return nil
	}
}

// same accepts any value, as it changes nothing here.
func same(why string) rule {
	return func(t *translation, name, _ string) error {
		t.notes = append(t.notes, name+": no consequence: "+why)
		return nil
	}
}

func refuse(why string) rule {
	return func(_ *translation, _, value string) error {
		if value == "" {
			return nil
		}
		return errors.New(why)
	}
}

// only accepts one value, and none.
func only(want, why string) rule {
	return func(_ *translation, _, value string) error {
		if value == want || value == "" {
			return nil
		}
		return errors.New(why)
	}
}

// off accepts that something is switched off.
func off(why string) rule {
	return func(_ *translation, _, value string) error {
		if on, err := truth(value); err != nil || on {
			return errors.Join(err, errors.New(why))
		}
		return nil
	}
}

func feature(name string) rule {
	return func(t *translation, _, value string) error {
		on, err := truth(value)
		if on {
			t.features = append(t.features, name)
		}
		return err
	}
}

// later is for variables that stand together: see sinks and metrics.
func later(*translation, string, string) error { return nil }

func truth(value string) (bool, error) {
	if value == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return on, nil
}

// interfaces reads a list of names; items between slashes are regular expressions, as they are with us.
func interfaces(ours string) rule {
	return func(t *translation, _, value string) error {
		var items []string
		for _, item := range strings.Split(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, strconv.Quote(item))
			}
		}
		if len(items) > 0 {
			t.out[ours] = "[" + strings.Join(items, ", ") + "]"
		}
		return nil
	}
}

// interfaceIPs reads a list of prefixes.
func interfaceIPs(t *translation, name, value string) error {
	if value != "" && t.vars["INTERFACES"]+t.vars["EXCLUDE_INTERFACES"] != "" {
		return errors.New("stands alone, without INTERFACES and EXCLUDE_INTERFACES")
	}
	return interfaces("WEIR_DISCOVER_ALLOW")(t, name, value)
}

func listenMode(t *translation, _, value string) error {
	if value != "watch" && value != "poll" && value != "" {
		return errors.New("want watch or poll")
	}
	t.out["WEIR_DISCOVER_MODE"] = value
	return nil
}

// duration gives a duration to one of our variables.
func duration(ours string) rule {
	return func(t *translation, _, value string) error {
		if value == "" {
			return nil
		}
		if _, err := time.ParseDuration(value); err != nil {
			return errors.New("want a duration like 5s")
		}
		t.out[ours] = value
		return nil
	}
}

func attachMode(_ *translation, _, value string) error {
	if value == "tcx" || value == "tc" || value == "any" || value == "" {
		return nil // weir takes tcx where the kernel has it, else tc
	}
	return errors.New("want tcx, tc or any")
}

// activeTimeout is how often their agent reports. Ours sweeps as often, and reports connections that go on
// at every sweep.
func activeTimeout(t *translation, _, value string) error {
	if _, err := time.ParseDuration(value); err != nil {
		return errors.New("want a duration like 5s")
	}
	t.out["WEIR_INTERVAL"], t.out["WEIR_ACTIVE"] = value, value
	return nil
}

// sampling is 1 in so many packets there and connections here.
func sampling(t *translation, _, value string) error {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return errors.New("want a number")
	}
	if n > 1 {
		t.notes = append(t.notes, "SAMPLING: chooses connections, each with all its packets, not packets")
	}
	t.out["WEIR_SAMPLE"] = strconv.FormatUint(max(n, 1), 10)
	return nil
}

// logLevel maps the levels of logrus.
func logLevel(t *translation, _, value string) error {
	level, ok := map[string]string{"trace": "debug", "debug": "debug", "info": "info", "warning": "warn", "warn": "warn",
		"error": "error", "fatal": "error", "panic": "error", "": "info"}[value]
	if !ok {
		return errors.New("want trace, debug, info, warn, error, fatal or panic")
	}
	t.out["WEIR_LOG_LEVEL"] = level
	return nil
}

// Defaults of the NetObserv agent.
const (
	defaultMetricsPort = "9090"
	defaultCache       = "5000"
	defaultTimeout     = "5s"
	defaultBatch       = "10000"
	defaultListen      = "watch"
	defaultAddress     = "external"
	namespaces         = `[own, "*"]` // where it looks for interfaces
)

func metrics(t *translation, _, value string) error {
	on, err := truth(value)
	if on {
		port := t.vars["METRICS_SERVER_PORT"]
		if port == "" {
			port = defaultMetricsPort
		}
		t.out["WEIR_MONITOR_ADDRESS"] = net.JoinHostPort(t.vars["METRICS_SERVER_ADDRESS"], port)
	}
	return err
}

// anchor is one for both directions.
func (t *translation) anchor() {
	in, out := t.vars["TCX_ATTACH_ANCHOR_INGRESS"], t.vars["TCX_ATTACH_ANCHOR_EGRESS"]
	switch {
	case in != out:
		t.errs = append(t.errs, fmt.Errorf("TCX_ATTACH_ANCHOR_INGRESS=%s, TCX_ATTACH_ANCHOR_EGRESS=%s: want the same for both",
			in, out))
	case !slices.Contains([]string{"", "none", "head", "tail"}, in):
		t.errs = append(t.errs, fmt.Errorf("TCX_ATTACH_ANCHOR_INGRESS=%s: want head, tail or none", in))
	case in != "" && in != "none":
		t.out["WEIR_DISCOVER_ANCHOR"] = in
	}
}

// sinks makes one of what says where flows go.
func (t *translation) sinks() {
	kind := t.vars["EXPORT"]
	if kind != "" && kind != "grpc" {
		t.errs = append(t.errs, fmt.Errorf("EXPORT=%s: only grpc is translated; write other sinks as `sinks` of weir's "+
			"configuration file, with EXPORT unset", kind))
		return
	}
	host, port := t.vars["TARGET_HOST"], t.vars["TARGET_PORT"]
	if host == "" && port == "" && kind == "" {
		return // the sinks are in the file
	}
	if host == "" || port == "" {
		t.errs = append(t.errs, errors.New("EXPORT=grpc needs both TARGET_HOST and TARGET_PORT"))
		return
	}
	const sink = "WEIR_SINKS_0_"
	t.out[sink+"GRPC_ADDRESS"] = net.JoinHostPort(host, port)
	t.out[sink+"BATCH"] = defaultBatch
	for theirs, ours := range map[string]string{
		"GRPC_MESSAGE_MAX_FLOWS":    "BATCH",
		"GRPC_RECONNECT_TIMER":      "GRPC_RECONNECT",
		"TARGET_TLS_CA_CERT_PATH":   "GRPC_TLS_CA",
		"TARGET_TLS_USER_CERT_PATH": "GRPC_TLS_CERT",
		"TARGET_TLS_USER_KEY_PATH":  "GRPC_TLS_KEY",
	} {
		if value := t.vars[theirs]; value != "" {
			t.out[sink+ours] = value
		}
	}
}

// defaults are theirs where they differ from ours.
func (t *translation) defaults() {
	for name, value := range map[string]string{"WEIR_TABLE_SIZE": defaultCache, "WEIR_INTERVAL": defaultTimeout,
		"WEIR_ACTIVE": defaultTimeout, "WEIR_DISCOVER_MODE": defaultListen, "WEIR_DISCOVER_NAMESPACES": namespaces} {
		if t.out[name] == "" {
			t.out[name] = value
		}
	}
	if len(t.features) > 0 {
		t.out["WEIR_FEATURES"] = strings.Join(t.features, ",")
	}
}
