package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type inner struct {
	Path string        `yaml:"path"`
	Wait time.Duration `yaml:"wait,omitempty"`
}

type item struct {
	Name   string `yaml:"name"`
	Inner  *inner `yaml:"inner,omitempty"`
	Number uint16 `yaml:"number"`
}

type config struct {
	Items    []item         `yaml:"items"`
	FastPath inner          `yaml:"fast_path"`
	Fast     string         `yaml:"fast"`
	Ports    []uint16       `yaml:"ports"`
	Names    []string       `yaml:"names"`
	Map      map[string]int `yaml:"map"`
	On       bool           `yaml:"on"`
}

func defaults() config { return config{Ports: []uint16{53}, FastPath: inner{Wait: time.Second}} }

func TestKeys(t *testing.T) {
	var lines []string
	for _, k := range Keys(defaults(), map[string]string{"settings.inner.Path": "where"}) {
		lines = append(lines, strings.Join([]string{k.Path, k.Env, k.Type, k.Default, k.Doc}, "|"))
	}
	require.Equal(t, []string{
		"items|WEIR_ITEMS|list of mapping||",
		"items[].name|WEIR_ITEMS_N_NAME|text||",
		"items[].inner|WEIR_ITEMS_N_INNER|mapping||",
		"items[].inner.path|WEIR_ITEMS_N_INNER_PATH|text||where",
		"items[].inner.wait|WEIR_ITEMS_N_INNER_WAIT|duration||",
		"items[].number|WEIR_ITEMS_N_NUMBER|number||",
		"fast_path|WEIR_FAST_PATH|mapping||",
		"fast_path.path|WEIR_FAST_PATH_PATH|text||where",
		"fast_path.wait|WEIR_FAST_PATH_WAIT|duration|1s|",
		"fast|WEIR_FAST|text||",
		"ports|WEIR_PORTS|list of number|[53]|",
		"names|WEIR_NAMES|list of text||",
		"map|WEIR_MAP|mapping of number||",
		"on|WEIR_ON|true or false||",
	}, lines)
}

func TestFromEnv(t *testing.T) {
	c := defaults()
	c.Items = []item{{Name: "file", Number: 1}}
	set, err := FromEnv(&c, []string{"HOME=/", "WEIR_FAST_PATH_PATH=a: b", "WEIR_FAST=#1", "WEIR_PORTS=53, 54", "WEIR_NAMES=[x]",
		"WEIR_MAP={a: 1}", "WEIR_ON=true", "WEIR_ITEMS_1_INNER_WAIT=2s", "WEIR_ITEMS_1_INNER_PATH=p", "WEIR_ITEMS_0_NAME=env",
		"WEIR_CACHE=/cache", "WEIR_SERVICE_HOST=10.0.0.1", "WEIR_PORT_80_TCP_ADDR=x", "WEIR_COLLECTOR_SERVICE_PORT_GRPC=1", "WEIR_PORT=tcp://x"})
	require.NoError(t, err)
	require.Equal(t, config{Items: []item{{Name: "env", Number: 1}, {Inner: &inner{"p", 2 * time.Second}}},
		FastPath: inner{"a: b", time.Second}, Fast: "#1", Ports: []uint16{53, 54}, Names: []string{"x"},
		Map: map[string]int{"a": 1}, On: true}, c)
	require.Equal(t, "WEIR_ITEMS_1_INNER_PATH", set["items[1].inner.path"])
	require.Len(t, set, 9)

	c = defaults()
	_, err = FromEnv(&c, []string{"WEIR_ITEMS_0_NUMBER=3", "WEIR_ITEMS=[{name: whole}]", "WEIR_FAST_PATH={path: q}"})
	require.NoError(t, err)
	require.Equal(t, []item{{Name: "whole", Number: 3}}, c.Items, "the whole comes before its parts")
	require.Equal(t, inner{"q", time.Second}, c.FastPath, "what is not named stays")
}

func TestFromEnvRefuses(t *testing.T) {
	for variable, want := range map[string]string{
		"WEIR_FAST_PAHT_PATH=x":            "did you mean WEIR_FAST_PATH_PATH?",
		"WEIR_ITEMS_0_NUMBR=1":             "did you mean WEIR_ITEMS_0_NUMBER?",
		"WEIR_QUITE_ANOTHER_THING=1":       "config --help",
		"WEIR_ON=perhaps":                  "environment variable WEIR_ON: on: WEIR_ON:1:1: ",
		"WEIR_PORTS=65536":                 "65536",
		"WEIR_ITEMS_1_NAME=x":              "items has 0 items; the next one is number 0",
		"WEIR_ITEMS_99999999999_NAME=x":    "items has 0 items",
		"WEIR_ITEMS_-1_NAME=x":             "items has 0 items",
		"WEIR_FAST_PATH_WAIT=1":            "a duration is written like 10s",
		"WEIR_ITEMS=[{nam: x}]":            `unknown key "nam"; did you mean "name"?`,
		"WEIR_ON_X=1":                      "no key has this name",
		"WEIR_=1":                          "no key has this name",
		"WEIR_ITEMS_0=1":                   "no key has this name",
		"WEIR_FAST_PATH_WAIT=99999999999h": "WEIR_FAST_PATH_WAIT",
	} {
		c := defaults()
		_, err := FromEnv(&c, []string{variable})
		require.ErrorContains(t, err, want, variable)
	}
}

func TestChanged(t *testing.T) {
	a, b := defaults(), defaults()
	require.Empty(t, Changed(a, b))
	b.FastPath.Path, b.Ports, b.Items = "x", nil, []item{{}}
	require.Equal(t, []string{"items", "fast_path.path", "ports"}, Changed(a, b))
}

func FuzzFromEnv(f *testing.F) {
	f.Add("ITEMS_0_INNER_PATH", "x")
	f.Add("MAP", "{a: [")
	f.Add("PORTS", "&a *a")
	f.Fuzz(func(t *testing.T, name, value string) {
		c := defaults()
		set, err := FromEnv(&c, []string{Prefix + name + "=" + value})
		if err == nil {
			require.LessOrEqual(t, len(set), 1)
		}
	})
}
