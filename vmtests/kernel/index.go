package kernel

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// record is one binary package of the archive's index.
type record struct {
	Package, Version, Depends, SHA256 string
}

// archived is a kernel of the archive: the packages that hold its image and its modules.
type archived struct {
	Version string // Debian version of the packages
	ABI     string // the part of the names that the packages share
	Debs    []record
	// Lacks is a package that the kernel needs and the archive has lost; "" if there is none.
	Lacks string
}

// flavoured matches the packages that hold a kernel or its modules. From 7.x the linux-image
// package is empty and depends on a linux-binary and a linux-modules package.
var flavoured = regexp.MustCompile(
	`^linux-(image|binary-unsigned|binary|modules)-([0-9][^:]*-cloud-amd64)(-unsigned)?$`)

// readIndex reads what apt-cache show prints.
func readIndex(r io.Reader) ([]record, error) {
	var (
		all []record
		cur record
	)
	flush := func() {
		if flavoured.MatchString(cur.Package) && !slices.Contains(all, cur) {
			all = append(all, cur)
		}
		cur = record{}
	}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if sc.Text() == "" {
			flush()
			continue
		}
		key, value, _ := strings.Cut(sc.Text(), ": ")
		switch key {
		case "Package":
			cur.Package = value
		case "Version":
			cur.Version = value
		case "Depends":
			cur.Depends = value
		case "SHA256":
			cur.SHA256 = value
		}
	}
	flush()
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read package index: %w", err)
	}
	return all, nil
}

// modulesPackage is how the names of packages begin that hold modules alone.
const modulesPackage = "linux-modules-"

// assemble makes kernels of packages, newest first; of two forms of the same version the signed
// one first.
func assemble(index []record) []archived {
	modules, wanted := map[string]record{}, map[string]bool{}
	of := func(r record, abi string) string { return abi + " " + r.Version }
	for _, r := range index {
		m := flavoured.FindStringSubmatch(r.Package)
		if m[1] == "modules" {
			modules[of(r, m[2])] = r
		}
		if strings.Contains(r.Depends, modulesPackage) {
			wanted[of(r, m[2])] = true
		}
	}
	var kernels []archived
	for _, r := range index {
		m := flavoured.FindStringSubmatch(r.Package)
		empty := m[1] == "image" && strings.Contains(r.Depends, "linux-binary-") // which stands for it
		if m[1] == "modules" || empty {
			continue
		}
		k := archived{Version: r.Version, ABI: m[2], Debs: []record{r}}
		switch mods, ok := modules[of(r, m[2])]; {
		case ok:
			k.Debs = append(k.Debs, mods)
		case wanted[of(r, m[2])]:
			k.Lacks = modulesPackage + m[2]
		}
		kernels = append(kernels, k)
	}
	slices.SortStableFunc(kernels, func(a, b archived) int {
		if c := compareVersions(b.Version, a.Version); c != 0 {
			return c
		}
		return strings.Count(a.Debs[0].Package, "unsigned") -
			strings.Count(b.Debs[0].Package, "unsigned")
	})
	return kernels
}

// whole are the kernels of which the archive has all packages.
func whole(kernels []archived) []archived {
	return slices.DeleteFunc(slices.Clone(kernels), func(k archived) bool { return k.Lacks != "" })
}

// lack is what the newest kernel of a line lacks; "" when the archive has no such kernel, or all of it.
func lack(kernels []archived, line string) string {
	for _, k := range kernels {
		if l, rc := lineOf(k.Version); l == line && !rc {
			return k.Lacks
		}
	}
	return ""
}

// linesOf are the lines of an archive's kernels, the oldest first, and Candidate last when there is one
// of a line that has no release yet.
func linesOf(kernels []archived) []string {
	var lines []string
	candidate := ""
	for _, k := range slices.Backward(kernels) { // the newest come first
		switch l, rc := lineOf(k.Version); {
		case l == "":
		case rc:
			candidate = l
		case !slices.Contains(lines, l):
			lines = append(lines, l)
		}
	}
	if candidate != "" && !slices.Contains(lines, candidate) {
		lines = append(lines, Candidate)
	}
	return lines
}

// choose gives the kernels that a line may resolve to, best first. There is more than one so
// that a package which the index names but the mirror has lost does not lose the line.
func choose(kernels []archived, line string) []archived {
	newest := ""
	for _, k := range kernels {
		if l, rc := lineOf(k.Version); !rc && l != "" {
			newest = l
			break
		}
	}
	var found []archived
	under := ""
	for _, k := range kernels {
		l, rc := lineOf(k.Version)
		ok := false
		switch {
		case l == "":
		case line == Candidate:
			ok = rc
		case rc:
		case line == Newest:
			ok = l == newest
		case major.MatchString(line):
			if under == "" && l != newest &&
				strings.HasPrefix(l, strings.TrimSuffix(line, "x")) {
				under = l
			}
			ok = l == under
		default:
			ok = l == line
		}
		if ok {
			found = append(found, k)
		}
	}
	return found
}
