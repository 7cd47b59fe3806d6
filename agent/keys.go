package agent

import (
	_ "embed"
	"encoding/json"

	"github.com/weirnet/weir/agent/settings"
)

//go:generate go run github.com/weirnet/weir/ci/keydocs keydocs.json . monitor export/certs export/clickhouse export/grpc export/ipfix export/kafka export/prometheus

// keyDocs are the doc comments of the fields below Config.
//
//go:embed keydocs.json
var keyDocs []byte

// docs are the descriptions of keys, by package.Type.Field.
func docs() map[string]string {
	all := map[string]string{}
	if err := json.Unmarshal(keyDocs, &all); err != nil {
		panic("keydocs.json: " + err.Error()) // it is generated
	}
	return all
}

// Keys lists all keys of the configuration.
func Keys() []settings.Key { return settings.Keys(DefaultConfig(), docs()) }
