// Package author writes new scenarios: from templates, and from captures of real traffic.
package author

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Modeline is the comment by which editors with yaml-language-server find the schema.
const Modeline = "# yaml-language-server: $schema=https://raw.githubusercontent.com/weirnet/weir/main/" +
	"sim/spec/scenario.schema.json\n"

//go:embed templates
var templates embed.FS

// Templates lists the names of the templates.
func Templates() []string {
	files, err := fs.Glob(templates, "templates/*.yaml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	return files
}

// Template returns a template's text: a scenario that runs, with comments.
func Template(name string) ([]byte, error) {
	text, err := templates.ReadFile("templates/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("there is no template %q: known are %s", name,
			strings.Join(Templates(), ", "))
	}
	return text, nil
}

// scenarioName is a scenario's path below scenarios/.
var scenarioName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)*$`)

// File is where a new scenario goes: a path that ends in .yaml as it is, a name below ./scenarios.
func File(name string) (string, error) {
	if strings.HasSuffix(name, ".yaml") {
		return filepath.Clean(name), nil
	}
	if !scenarioName.MatchString(name) {
		return "", fmt.Errorf("%q is no name of a scenario: want lower-case words with -, "+
			"in folders, like tcp/my-scenario, or a path that ends in .yaml", name)
	}
	return filepath.Join("scenarios", filepath.FromSlash(name)+".yaml"), nil
}

// Write makes the file, and the folders that it is in. A file that is there already is an error
// and stays as it is.
func Write(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write the scenario: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the scenario: %w", err)
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return fmt.Errorf("write the scenario: %w", err)
	}
	return f.Close()
}
