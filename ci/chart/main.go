// Command chart lints a Helm chart, by Helm's own rules, and writes its manifests with the chart's default values. It is
// a module of its own: Helm is no part of weir.
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

// namespace is where the manifests are applied.
const namespace = "weir"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: chart FOLDER > MANIFESTS")
		os.Exit(2)
	}
	manifests, err := render(os.Args[1])
	if err := errors.Join(check(os.Args[1]), err); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
	fmt.Print(manifests)
}

// check lints a chart; what is only told as information is no complaint.
func check(folder string) error {
	var errs []error
	for _, m := range lint.All(folder, nil, namespace, true).Messages {
		if m.Severity > support.InfoSev {
			errs = append(errs, m)
		}
	}
	return errors.Join(errs...)
}

// render gives the manifests, in the order of their files' names.
func render(folder string) (string, error) {
	chart, err := loader.Load(folder)
	if err != nil {
		return "", err
	}
	release := chartutil.ReleaseOptions{Name: "weir", Namespace: namespace, IsInstall: true}
	values, err := chartutil.ToRenderValues(chart, nil, release, nil)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(chart, values)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# The chart packaging/helm/weir with its defaults. Written by `make chart`: change that.\n")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if text := strings.TrimSpace(files[name]); text != "" && strings.HasSuffix(name, ".yaml") {
			b.WriteString("---\n" + text + "\n")
		}
	}
	return b.String(), nil
}
