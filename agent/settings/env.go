package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/weirnet/weir/agent/spelling"
	"github.com/weirnet/weir/agent/yamlfile"
)

// Kubernetes sets these for every service of a namespace (enableServiceLinks): a service called weir is no setting.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// ignored are variables of the test harness.
var ignored = []string{"WEIR_CACHE"}

// maxIndex bounds the items of a list that variables make.
const maxIndex = 999

// FromEnv sets in a configuration, given by a pointer, what environment variables tell, and returns which
// key each has set, by path. environ is as of os.Environ. An unknown name is an error.
func FromEnv(config any, environ []string) (map[string]string, error) {
	set := map[string]string{}
	vars := ours(environ)
	for _, name := range sorted(vars) {
		path, target, err := find(reflect.ValueOf(config).Elem(), strings.TrimPrefix(name, Prefix), "")
		if err == nil && !target.IsValid() {
			if serviceLink.MatchString(name) {
				continue
			}
			err = fmt.Errorf("no key has this name%s", near(config, name))
		}
		if err == nil {
			err = assign(name, path, vars[name], target)
		}
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", name, err)
		}
		set[path] = name
	}
	return set, nil
}

func ours(environ []string) map[string]string {
	vars := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, Prefix) && !slices.Contains(ignored, name) {
			vars[name] = value
		}
	}
	return vars
}

// sorted puts a key before those within it, and items in the order of their numbers.
func sorted(vars map[string]string) []string {
	digits := regexp.MustCompile(`\d+`)
	pad := func(s string) string {
		return digits.ReplaceAllStringFunc(s, func(n string) string { return fmt.Sprintf("%020s", n) })
	}
	var names []string
	for name := range vars {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(pad(a), pad(b)) })
	return names
}

// find follows a name through the configuration, making what is on the way. An invalid value means that there is
// no such key.
func find(v reflect.Value, name, path string) (string, reflect.Value, error) {
	for _, f := range yamlfile.Fields(v.Type()) {
		key := yamlfile.Name(f)
		rest, ok := strings.CutPrefix(name, strings.ToUpper(key))
		if !ok || rest != "" && rest[0] != '_' {
			continue
		}
		at, field := path+key, v.FieldByIndex(f.Index)
		if rest == "" {
			return at, field, nil
		}
		found, target, err := within(field, rest[1:], at)
		if err != nil || target.IsValid() {
			return found, target, err
		}
	}
	return "", reflect.Value{}, nil
}

// within follows the rest of a name into a field.
func within(field reflect.Value, rest, path string) (string, reflect.Value, error) {
	t := field.Type()
	if t.Kind() == reflect.Pointer && isStruct(t.Elem()) {
		made := reflect.New(t.Elem())
		if !field.IsNil() {
			made.Elem().Set(field.Elem())
		}
		found, target, err := find(made.Elem(), rest, path+".")
		if err == nil && target.IsValid() {
			field.Set(made)
		}
		return found, target, err
	}
	if isStruct(t) {
		return find(field, rest, path+".")
	}
	if t.Kind() != reflect.Slice || !isStruct(t.Elem()) {
		return "", reflect.Value{}, nil
	}
	index, rest, _ := strings.Cut(rest, "_")
	i, err := strconv.Atoi(index)
	if err != nil || rest == "" {
		return "", reflect.Value{}, nil
	}
	if i > field.Len() || i > maxIndex || i < 0 {
		return "", reflect.Value{}, fmt.Errorf("%s has %d items; the next one is number %d", path, field.Len(), field.Len())
	}
	items := reflect.AppendSlice(reflect.MakeSlice(t, 0, i+1), field)
	if i == items.Len() {
		items = reflect.Append(items, reflect.Zero(t.Elem()))
	}
	found, target, err := find(items.Index(i), rest, fmt.Sprintf("%s[%d].", path, i))
	if err == nil && target.IsValid() {
		field.Set(items)
	}
	return found, target, err
}

// assign reads a value: a text as it is, everything else as YAML. A list of plain values may do without
// brackets.
func assign(name, path, value string, target reflect.Value) error {
	t := target.Type()
	if t.Kind() == reflect.String {
		target.SetString(value)
		return nil
	}
	if yamlfile.Scalar(t) {
		return target.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(value))
	}
	if t.Kind() == reflect.Slice && !isStruct(t.Elem()) && !strings.HasPrefix(strings.TrimSpace(value), "[") {
		value = "[" + value + "]"
	}
	fresh := reflect.New(t)
	if isStruct(t) {
		fresh.Elem().Set(target) // what it does not name stays
	}
	if err := yamlfile.Decode(name, []byte(value), fresh.Interface()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	target.Set(fresh.Elem())
	return nil
}

// near is a hint at the name that was meant.
func near(config any, name string) string {
	var known []string
	index := regexp.MustCompile(`_\d+_`).FindString(name)
	for _, k := range Keys(reflect.ValueOf(config).Elem().Interface(), nil) {
		known = append(known, strings.ReplaceAll(k.Env, "_N_", index))
	}
	if n := spelling.Nearest(name, known); n != "" {
		return fmt.Sprintf("; did you mean %s?", n)
	}
	return "; `weir agent config --help` lists them"
}
