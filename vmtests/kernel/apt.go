package kernel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// suites are where the lines come from. The archive is either the main one or the security one.
var suites = []struct {
	name     string
	security bool
}{
	{"bullseye", false}, {"bullseye-security", true},
	{"bookworm", false}, {"bookworm-security", true}, {"bookworm-backports", false},
	{"trixie", false}, {"trixie-security", true}, {"trixie-backports", false},
	{"sid", false}, {"experimental", false},
}

// keyring is where Debian's keyring package puts the archive's keys. Without it apt falls back on
// the keys that the machine trusts; unsigned lists are refused either way.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// indexAge is how old the package lists may be before a fetch reads them again.
const indexAge = time.Hour

// Mirror says where the archives are. An empty field is taken from the machine's own apt
// configuration; Security follows from a Main that ends in "/debian".
type Mirror struct{ Main, Security string }

// apt is an apt client of its own: its lists, state and cache are below dir.
type apt struct {
	dir    string
	mirror Mirror
}

// ready writes the client's configuration. The machine's own (proxies, mirrors' credentials)
// stays in force, but none of its hooks run.
func (a apt) ready(ctx context.Context) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("find apt (kernels can also be given by path): %w", err)
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return fmt.Errorf("make apt folder: %w", err)
		}
	}
	m, err := a.mirror.complete(ctx)
	if err != nil {
		return err
	}
	option := "arch=amd64"
	if _, err := os.Stat(keyring); err == nil {
		option += " signed-by=" + keyring
	}
	var list strings.Builder
	for _, s := range suites {
		uri := m.Main
		if s.security {
			uri = m.Security
		}
		if uri != "" {
			fmt.Fprintf(&list, "deb [%s] %s %s main\n", option, uri, s.name)
		}
	}
	conf := fmt.Sprintf(aptConf, a.dir)
	if os.Geteuid() == 0 {
		conf += "APT::Sandbox::User \"root\";\n"
	}
	for name, text := range map[string]string{
		"sources.list": list.String(), "apt.conf": conf, "status": "",
	} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write apt configuration: %w", err)
		}
	}
	return nil
}

const aptConf = `
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear Acquire::IndexTargets::deb;
APT::Architecture "amd64";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "%[1]s";
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::Check-Valid-Until "false";
Acquire::AllowInsecureRepositories "false";
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "0";
};
`

// update reads the package lists, unless they are fresh. A suite that cannot be read is not an
// error as long as another can: its lines will be reported as unavailable.
func (a apt) update(ctx context.Context, force bool) error {
	stamp := filepath.Join(a.dir, "updated")
	if fi, err := os.Stat(stamp); err == nil && !force && time.Since(fi.ModTime()) < indexAge {
		return nil
	}
	_, err := a.run(ctx, "", "apt-get", "-q", "update")
	found, globErr := filepath.Glob(filepath.Join(a.dir, "lists", "*_Packages*"))
	if globErr == nil && len(found) == 0 {
		if err == nil {
			err = errors.New("no list came")
		}
		return fmt.Errorf("read the archive's package lists: %w", err)
	}
	if err != nil {
		return nil // partial: a missing stamp makes the next fetch try again
	}
	return os.WriteFile(stamp, nil, 0o644)
}

// kernels lists the kernels of the archive, newest first.
func (a apt) kernels(ctx context.Context) ([]archived, error) {
	names, err := a.run(ctx, "", "apt-cache", "pkgnames", "linux-")
	if err != nil {
		return nil, fmt.Errorf("list kernel packages: %w", err)
	}
	args := []string{"show"}
	for n := range strings.FieldsSeq(string(names)) {
		if flavoured.MatchString(n) {
			args = append(args, n)
		}
	}
	if len(args) == 1 {
		return nil, nil
	}
	shown, err := a.run(ctx, "", "apt-cache", args...)
	if err != nil && len(shown) == 0 {
		return nil, fmt.Errorf("show kernel packages: %w", err)
	}
	index, err := readIndex(bytes.NewReader(shown))
	if err != nil {
		return nil, err
	}
	return assemble(index), nil
}

// download fetches one package into dir and returns its file. apt checks it against the signed
// index.
func (a apt) download(ctx context.Context, dir string, r record) (string, error) {
	if _, err := a.run(ctx, dir, "apt-get", "-q", "download", r.Package+"="+r.Version); err != nil {
		return "", fmt.Errorf("download %s %s: %w", r.Package, r.Version, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, r.Package+"_*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("download %s %s: no file came", r.Package, r.Version)
	}
	return found[0], nil
}

// run runs a program of the private client in dir. Its error holds the first complaint.
func (a apt) run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	args = append([]string{"-c", filepath.Join(a.dir, "apt.conf")}, args...)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		for line := range strings.Lines(stderr.String()) {
			if strings.HasPrefix(line, "E:") {
				err = fmt.Errorf("%w: %s", err, strings.TrimSpace(line[2:]))
				break
			}
		}
	}
	return out, err
}

// complete fills in the addresses that are not given.
func (m Mirror) complete(ctx context.Context) (Mirror, error) {
	if m.Main != "" {
		if base, ok := strings.CutSuffix(strings.TrimSuffix(m.Main, "/"), "/debian"); ok {
			m.Security = cmp.Or(m.Security, base+"/debian-security")
		}
		return m, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(LABEL) $(REPO_URI)", "Origin: Debian", "Created-By: Packages").Output()
	if err != nil {
		return m, fmt.Errorf("ask apt for the machine's mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		label, uri, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch label {
		case "Debian":
			m.Main = cmp.Or(m.Main, uri)
		case "Debian-Security":
			m.Security = cmp.Or(m.Security, uri)
		}
	}
	if m.Main == "" {
		return m, errors.New("find a Debian mirror: the machine's apt has none, give --mirror")
	}
	return m, nil
}
