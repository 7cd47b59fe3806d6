package settings

import (
	"reflect"

	"github.com/weirnet/weir/agent/yamlfile"
)

// Schema is a JSON Schema (2020-12) of the files that a configuration is read from.
func Schema(title string, defaults any, docs map[string]string) map[string]any {
	s := schemaOf(reflect.ValueOf(defaults), docs)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = title
	return s
}

func schemaOf(v reflect.Value, docs map[string]string) map[string]any {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		return schemaOf(reflect.New(t.Elem()).Elem(), docs)
	}
	switch {
	case t == duration:
		return map[string]any{"type": "string", "pattern": `^-?([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$`}
	case yamlfile.Scalar(t):
		return map[string]any{"type": []string{"string", "number"}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return objectOf(v, docs)
	case reflect.Map:
		return map[string]any{"type": "object",
			"additionalProperties": schemaOf(reflect.New(t.Elem()).Elem(), docs)}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(reflect.New(t.Elem()).Elem(), docs)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		// A plain number is a text where one is wanted.
		return map[string]any{"type": []string{"string", "number"}}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	}
	return map[string]any{"type": "integer"}
}

func objectOf(v reflect.Value, docs map[string]string) map[string]any {
	properties := map[string]any{}
	for _, f := range yamlfile.Fields(v.Type()) {
		value := v.FieldByIndex(f.Index)
		p := schemaOf(value, docs)
		if doc := docs[v.Type().String()+"."+f.Name]; doc != "" {
			p["description"] = doc
		}
		if !value.IsZero() && !isStruct(f.Type) && value.Kind() != reflect.Pointer {
			p["default"] = value.Interface()
			if f.Type == duration || yamlfile.Scalar(f.Type) {
				p["default"] = text(value)
			}
		}
		properties[yamlfile.Name(f)] = p
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}
