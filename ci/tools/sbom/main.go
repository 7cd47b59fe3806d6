// Command sbom writes which modules a binary is built of, as CycloneDX JSON, read from what the Go linker has put
// into it. The same binary gives the same bytes.
//
//	go run ./sbom BINARY VERSION >weir.cdx.json
package main

import (
	"cmp"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY VERSION")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// run writes the bill of a binary, which is of the given version.
func run(binary, version string, w io.Writer) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what %s is built of: %w", binary, err)
	}
	if len(info.Deps) == 0 {
		return fmt.Errorf("%s names no modules: it was not built in module mode", binary)
	}
	bom, err := bill(info, version)
	if err != nil {
		return err
	}
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
}

// bill lists the modules, and Go's standard library, which is linked in likewise.
func bill(info *debug.BuildInfo, version string) (*cyclonedx.BOM, error) {
	self := component(info.Main.Path, version)
	self.Type = cyclonedx.ComponentTypeApplication
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	all := []cyclonedx.Component{component("std", goVersion)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component(m.Path, m.Version)
		hash, err := sum(m)
		if err != nil {
			return nil, err
		}
		c.Hashes = &hash
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	refs := make([]string, len(all))
	for i, c := range all {
		refs[i] = c.BOMRef
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &self}
	bom.Components = &all
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}
	return bom, nil
}

// component is a module, by its package URL.
func component(path, version string) cyclonedx.Component {
	url := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cyclonedx.Component{BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: path, Version: version,
		PackageURL: url}
}

// sum is the module's h1: sum of go.sum, which is a SHA-256 over its files' names and hashes.
func sum(m *debug.Module) ([]cyclonedx.Hash, error) {
	text, ok := strings.CutPrefix(m.Sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("%s: the sum %q is none of go.sum; a replaced module cannot be released", m.Path, m.Sum)
	}
	return []cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}, nil
}
