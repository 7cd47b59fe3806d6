package netobserv

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTranslate(t *testing.T) {
	ours, notes, err := Translate([]string{"HOME=/root", "INTERFACES=eth0, /^br-\\d/", "EXPORT=grpc", "TARGET_HOST=fd00::1",
		"TARGET_PORT=2055", "TARGET_TLS_CA_CERT_PATH=/ca", "GRPC_MESSAGE_MAX_FLOWS=500", "GRPC_RECONNECT_TIMER=5m",
		"CACHE_MAX_FLOWS=1000", "CACHE_ACTIVE_TIMEOUT=3s", "SAMPLING=50", "ENABLE_RTT=true", "ENABLE_DNS_TRACKING=1",
		"ENABLE_PKT_DROPS=false", "DNS_TRACKING_PORT=5353", "LOG_LEVEL=trace", "METRICS_ENABLE=true",
		"METRICS_TLS_CERT_PATH=/c", "DIRECTION=both", "AGENT_IP_IFACE=local", "BUFFERS_LENGTH=7", "EXCLUDE_INTERFACES=lo",
		"LISTEN_INTERFACES=poll", "LISTEN_POLL_PERIOD=20s"})
	require.NoError(t, err)
	require.Equal(t, []string{"WEIR_ACTIVE=3s", `WEIR_DISCOVER_ALLOW=["eth0", "/^br-\\d/"]`,
		`WEIR_DISCOVER_DENY=["lo"]`, "WEIR_DISCOVER_EVERY=20s", "WEIR_DISCOVER_MODE=poll", `WEIR_DISCOVER_NAMESPACES=[own, "*"]`,
		"WEIR_DNS_PORTS=5353", "WEIR_FEATURES=dns,rtt", "WEIR_IDENTITY_ADDRESS=local", "WEIR_INTERVAL=3s", "WEIR_LOG_LEVEL=debug",
		"WEIR_MONITOR_ADDRESS=:9090", "WEIR_MONITOR_TLS_CERT=/c", "WEIR_SAMPLE=50", "WEIR_SINKS_0_BATCH=500",
		"WEIR_SINKS_0_GRPC_ADDRESS=[fd00::1]:2055", "WEIR_SINKS_0_GRPC_RECONNECT=5m", "WEIR_SINKS_0_GRPC_TLS_CA=/ca",
		"WEIR_TABLE_SIZE=1000"}, ours)
	require.Len(t, notes, 2)
	require.Contains(t, notes[0]+notes[1], "BUFFERS_LENGTH: no consequence: ")
	require.Contains(t, notes[0]+notes[1], "SAMPLING: chooses connections")
}

func TestDefaults(t *testing.T) {
	ours, _, err := Translate(nil)
	require.NoError(t, err)
	require.Equal(t, []string{"WEIR_ACTIVE=5s", "WEIR_DISCOVER_MODE=watch", `WEIR_DISCOVER_NAMESPACES=[own, "*"]`,
		"WEIR_IDENTITY_ADDRESS=external", "WEIR_INTERVAL=5s", "WEIR_TABLE_SIZE=5000"}, ours)
	ours, _, err = Translate([]string{"AGENT_IP=10.0.0.1", "AGENT_IP_IFACE=name:eth0", "AGENT_IP_TYPE=ipv4"})
	require.NoError(t, err)
	require.Contains(t, ours, "WEIR_IDENTITY_ADDRESS=10.0.0.1")
	require.Contains(t, ours, "WEIR_IDENTITY_FAMILY=ipv4")
	ours, _, err = Translate([]string{"TCX_ATTACH_ANCHOR_INGRESS=tail", "TCX_ATTACH_ANCHOR_EGRESS=tail"})
	require.NoError(t, err)
	require.Contains(t, ours, "WEIR_DISCOVER_ANCHOR=tail")
}

func TestRefusals(t *testing.T) {
	for variable, want := range map[string]string{
		"EXPORT=kafka":              "EXPORT=kafka: only grpc",
		"EXPORT=grpc":               "TARGET_HOST and TARGET_PORT",
		"TARGET_PORT=1":             "TARGET_HOST and TARGET_PORT",
		"LISTEN_INTERFACES=listen":  "watch or poll",
		"LISTEN_POLL_PERIOD=10":     "a duration",
		"DIRECTION=ingress":         "both directions",
		"TC_ATTACH_MODE=xdp":        "tcx, tc or any",
		"ENABLE_RTT=maybe":          "true or false",
		"ENABLE_PCA=true":           "nothing like it",
		"ENABLE_TLS_TRACKING=x":     "true or false",
		"QUIC_TRACKING_MODE=1":      "QUIC",
		"SAMPLING=-1":               "a number",
		"LOG_LEVEL=loud":            "want trace",
		"CACHE_ACTIVE_TIMEOUT=5":    "a duration",
		"FLOW_FILTER_RULES=[{}]":    "filters",
		"KAFKA_BROKERS=a:9092":      "only EXPORT=grpc",
		"METRICS_ENABLE=yes please": "true or false",

		"TCX_ATTACH_ANCHOR_EGRESS=tail": "the same for both",
		"FLOWS_TARGET_HOST=a":           "TARGET_HOST",
	} {
		_, _, err := Translate([]string{variable})
		require.ErrorContains(t, err, want, variable)
	}
	_, _, err := Translate([]string{"INTERFACE_IPS=10.0.0.0/8", "INTERFACES=eth0"})
	require.ErrorContains(t, err, "INTERFACE_IPS=10.0.0.0/8: stands alone")
	_, _, err = Translate([]string{"TCX_ATTACH_ANCHOR_EGRESS=top", "TCX_ATTACH_ANCHOR_INGRESS=top"})
	require.ErrorContains(t, err, "want head, tail or none")
	_, _, err = Translate([]string{"DIRECTION=ingress", "SAMPLING=x"})
	require.ErrorContains(t, err, "DIRECTION")
	require.ErrorContains(t, err, "SAMPLING", "all that is wrong is told at once")
}

// TestPage checks that the page tells of every variable.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("`([A-Z_]+)`").FindAllSubmatch(page, -1) {
		told[string(m[1])] = true
	}
	for _, name := range Names() {
		require.True(t, told[name], name)
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add("INTERFACES", `a,"b`)
	f.Fuzz(func(t *testing.T, name, value string) {
		ours, _, err := Translate([]string{name + "=" + value})
		if err == nil {
			require.GreaterOrEqual(t, len(ours), 3)
		}
	})
}
