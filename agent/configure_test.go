package agent

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/agent/control"
	"github.com/weirnet/weir/agent/settings"
)

// TestKeysAreDocumented also checks that each variable's name finds its own key.
func TestKeysAreDocumented(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Keys() {
		require.NotEmpty(t, k.Doc, "%s has no comment; or make generate was not run", k.Path)
		require.Empty(t, seen[k.Env], k.Path)
		seen[k.Env] = k.Path
		c := DefaultConfig()
		_, err := settings.FromEnv(&c, []string{strings.ReplaceAll(k.Env, "_N_", "_0_") + "="})
		if err != nil {
			require.NotContains(t, err.Error(), "no key has this name")
		}
	}
	require.Greater(t, len(seen), 80)
	page, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	_, reload, _ := strings.Cut(string(page), "## Reload\n")
	reload, _, _ = strings.Cut(reload, "\n## ")
	for _, key := range slices.Concat(reloadableKeys, slices.Collect(maps.Keys(fixedKeys))) {
		require.Contains(t, reload, "`"+key+"`")
	}
	for _, key := range reloadableKeys {
		require.Contains(t, seen, settings.Prefix+strings.ToUpper(strings.ReplaceAll(key, ".", "_")))
	}
}

func TestConfigPlaces(t *testing.T) {
	for _, test := range []struct {
		name, text, env, want string
	}{
		{"misspelt", smallest + "tabel: {size: 1}", "", `weir.yaml:2:1: unknown key "tabel"; did you mean "table"?`},
		{"misspelt inside", smallest + "dns: {port: [53]}", "", `weir.yaml:2:7: unknown key "port"; did you mean "ports"?`},
		{"misspelt in a list", smallest + "sinks:\n  - grpc: {adress: a}", "",
			`weir.yaml:3:12: unknown key "adress"; did you mean "address"?`},
		{"like none", smallest + "unheardof: 1", "", "known: interfaces, discover, pin, table"},
		{"value", smallest + "table:\n  size: 0", "", "weir.yaml:3:9: table.size: 0; want"},
		{"contradiction", smallest + "interval: 5s\nactive: 1s", "", "weir.yaml:2:11: interval: 5s, active: 1s"},
		{"contradiction in a list", smallest + "sinks:\n  - {file: {path: x}, grpc: {address: 'a:1'}}", "", "weir.yaml:3:5: sinks[0]: want one of"},
		{"from a variable", smallest, "WEIR_TABLE_SIZE=0", "environment variable WEIR_TABLE_SIZE: table.size: 0; want"},
		{"missing", smallest + "sinks: [{spool: {path: x}}]", "WEIR_SINKS_0_FILE_KEEP=2", "weir.yaml:2:9: sinks[0].file.path: is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseConfig("weir.yaml", []byte(test.text), []string{test.env}, nil)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestEnvironmentBeatsTheFile(t *testing.T) {
	c, err := parseConfig("weir.yaml", []byte(smallest+"table: {size: 7, full: evict}"), []string{"WEIR_TABLE_SIZE=9"}, nil)
	require.NoError(t, err)
	require.Equal(t, Table{Size: 9, Full: fullEvict}, c.Table)
	c, err = parseConfig("weir.yaml", nil, []string{"WEIR_INTERFACES_0_NAME=eth0", "WEIR_LOG_LEVEL=debug"}, nil)
	require.NoError(t, err, "the environment alone is enough")
	require.Equal(t, []Interface{{Name: "eth0"}}, c.Interfaces)
}

// configOutput runs `weir agent config`.
func configOutput(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return output(t, Command(), append([]string{"config"}, args...)...)
}

func TestConfigCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	require.NoError(t, os.WriteFile(file, []byte(smallest+"lifetimes: {closed: 3s}\nsinks: [{file: {path: x, max_size: 1MiB}}]\n"), 0o600))
	t.Setenv("WEIR_TABLE_SIZE", "77")
	text, err := configOutput(t, "--check", "--config", file)
	require.NoError(t, err)
	require.Empty(t, text)
	text, err = configOutput(t, "--show", "--config", file)
	require.NoError(t, err)
	shown, err := ParseConfig("shown", []byte(text))
	require.NoError(t, err, text)
	require.Equal(t, 77, shown.Table.Size)
	again, err := yaml.Marshal(shown)
	require.NoError(t, err)
	require.Equal(t, text, string(again), "what is shown is a configuration that shows the same")

	_, err = configOutput(t)
	require.ErrorContains(t, err, "--check, --show or --schema")
	_, err = configOutput(t, "--check", "--show")
	require.Error(t, err)
	_, err = configOutput(t, "--check", "--config", filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = configOutput(t, "--check", "--compat", "other")
	require.ErrorContains(t, err, "want netobserv")
	text, err = configOutput(t, "--help")
	require.NoError(t, err)
	for _, k := range Keys() {
		require.Contains(t, text, "("+k.Env+")\n")
	}
}

func TestConfigCompat(t *testing.T) {
	for name, value := range map[string]string{"INTERFACES": "eth0", "EXPORT": "grpc", "TARGET_HOST": "collector",
		"TARGET_PORT": "2055", "ENABLE_RTT": "true", "WEIR_TABLE_SIZE": "123"} {
		t.Setenv(name, value)
	}
	t.Chdir(t.TempDir()) // there is no weir.yaml
	text, err := configOutput(t, "--show", "--compat", "netobserv")
	require.NoError(t, err)
	c, err := ParseConfig("shown", []byte(text))
	require.NoError(t, err)
	require.Equal(t, []string{"eth0"}, c.Discover.Allow)
	require.Equal(t, "collector:2055", c.Sinks[0].GRPC.Address)
	require.Equal(t, []string{"rtt"}, c.Features)
	require.Equal(t, 123, c.Table.Size, "our own variables beat theirs")
	require.Equal(t, 5*time.Second, c.Active)
	t.Setenv("DIRECTION", "egress")
	_, err = configOutput(t, "--check", "--compat", "netobserv")
	require.ErrorContains(t, err, "DIRECTION=egress: weir watches both directions")
}

// TestSchema holds the schema against files that the agent takes, and some that it does not.
func TestSchema(t *testing.T) {
	text, err := configOutput(t, "--schema")
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("weir.json", doc))
	schema, err := c.Compile("weir.json")
	require.NoError(t, err)
	valid := func(file string) error {
		data, err := yaml.YAMLToJSON([]byte(file))
		require.NoError(t, err)
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		require.NoError(t, err)
		return schema.Validate(v)
	}
	for _, file := range []string{smallest, smallest + "sinks: [{file: {path: x}, queue: 5MiB}, {grpc: {address: 'a:1'}, queue: 5000000}]",
		smallest + "lifetimes: {closed: 1h2m3s}\ntunnels: [gre]\nfilters: {rules: [{action: accept, dst_port: 53}]}"} {
		require.NoError(t, valid(file))
		_, err := ParseConfig("f", []byte(file))
		require.NoError(t, err)
	}
	shown, err := yaml.Marshal(DefaultConfig())
	require.NoError(t, err)
	require.NoError(t, valid(string(shown)))
	for _, file := range []string{smallest + "tabel: {}", smallest + "table: {size: many}", smallest + "active: soon", smallest + "tunnels: gre"} {
		require.Error(t, valid(file), file)
	}
}

func TestReload(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Clock.Virtual = true
	a, err := New(cfg, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.stop()) }()
	change := func(by func(*Config)) ([]string, error) {
		c := a.config()
		by(&c)
		return a.Reload(c)
	}
	changed, err := change(func(c *Config) {})
	require.NoError(t, err)
	require.Empty(t, changed)

	p.send(t, p.udp(t, 1000, 2000, 10))
	changed, err = change(func(c *Config) {
		c.Table.Size, c.Table.Full, c.Tunnels, c.Interval = 128, fullEvict, []string{"gre"}, 20*time.Second
		c.Active = cfg.Active
		c.Filters.Rules = []FilterRule{{Action: "reject", Protocol: "udp"}}
	})
	require.ErrorContains(t, err, "active >= interval")
	require.Empty(t, changed)
	changed, err = change(func(c *Config) {
		c.Table.Size, c.Table.Full, c.Tunnels = 128, fullEvict, []string{"gre"}
		c.Filters.Rules = []FilterRule{{Action: "reject", Protocol: "udp"}}
	})
	require.NoError(t, err)
	require.Equal(t, []string{"table.size", "table.full", "tunnels", "filters.rules"}, changed)
	p.send(t, p.udp(t, 1000, 2000, 10), p.udp(t, 1000, 2000, 10))
	counters, err := a.Counters()
	require.NoError(t, err)
	require.Equal(t, uint64(2), counters.Hooks[0].LeftOut["filter"].Packets, "%+v", counters)
	require.Equal(t, uint64(1), counters.Hooks[0].Accounted.Packets)
	require.Equal(t, 128, a.dp.Options().Table)

	before := a.config()
	_, err = change(func(c *Config) {
		c.Table.Size, c.Output, c.Sample = 256, c.Output+".2", 10
	})
	require.EqualError(t, err, "sample: needs a new start: records tell the factor, and connections are reported that "+
		"another one has chosen\noutput: needs a new start")
	require.Equal(t, before, a.config())
	require.Equal(t, 128, a.dp.Options().Table, "nothing was changed")
	for i := range 10 {
		p.send(t, p.tcp(t, uint16(2000+i), 80, "S", 1, 0))
	}
	_, err = change(func(c *Config) { c.Takeover, c.Table.Size = time.Minute, 2 })
	require.ErrorContains(t, err, "are held")
	require.Equal(t, before, a.config())
	require.Equal(t, before.Takeover, a.dp.Options().Takeover, "nothing was changed")
}

// TestReloadOnHangup changes the file of an agent process.
func TestReloadOnHangup(t *testing.T) {
	p := newPair(t)
	cfg := p.watching(t)
	cfg.Control = filepath.Join(t.TempDir(), "control.sock")
	agent := startProcess(t, cfg)
	client := control.Dial(cfg.Control)
	size := func() int {
		s, err := client.Status(t.Context())
		require.NoError(t, err)
		return s.Table.Size
	}
	cfg.Table.Size, cfg.Interval = 512, 2*minEvery
	cfg.Active = minEvery
	agent.configure(t, cfg) // which contradicts itself
	require.NoError(t, agent.cmd.Process.Signal(syscall.SIGHUP))
	cfg.Interval = minEvery
	eventually(t, "the refusal", func() bool { return strings.Contains(agent.log.String(), "nothing is changed") })
	require.Equal(t, DefaultConfig().Table.Size, size())
	agent.configure(t, cfg)
	require.NoError(t, agent.cmd.Process.Signal(syscall.SIGHUP))
	eventually(t, "another size", func() bool { return size() == 512 })
	agent.end(t)
	require.Contains(t, agent.log.String(), "[table.size]")
	var line map[string]any
	require.Error(t, json.Unmarshal([]byte(agent.log.String()), &line), "the log is text")
}

// TestInterfacesOfTheCommandLine replace those of the configuration, which need not exist then.
func TestInterfacesOfTheCommandLine(t *testing.T) {
	t.Chdir(t.TempDir())
	s := source{path: defaultPath, names: []string{"eth0", "eth1"}}
	c, err := s.load()
	require.NoError(t, err)
	require.Equal(t, []Interface{{Name: "eth0"}, {Name: "eth1"}}, c.Interfaces)
	require.Equal(t, control.DefaultSocket, c.Control)

	require.NoError(t, os.WriteFile(defaultPath, []byte(smallest+"control: /run/own\ntable: {size: 7}"), 0o600))
	c, err = s.load()
	require.NoError(t, err)
	require.Equal(t, []Interface{{Name: "eth0"}, {Name: "eth1"}}, c.Interfaces)
	require.Equal(t, "/run/own", c.Control)
	require.Equal(t, 7, c.Table.Size, "the rest of the file holds")
}
