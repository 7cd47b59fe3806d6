package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is that of a release, which the linker sets; "" otherwise.
var version string

// versionText is what `weir --version` tells: the version, or of other builds the commit that Go has noted, and
// what the binary was built with and for.
func versionText() string {
	v := version
	if v == "" {
		v = "(devel)"
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
			v = info.Main.Version
		}
	}
	return fmt.Sprintf("%s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
