package process

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Program is a process that can be started: what is executed, as a sealed copy in memory, and whom it runs as.
type Program struct {
	// Digest tells two versions apart: whatever makes another process is in it, the file's contents too.
	Digest string
	spec   Spec
	who    identity
	script bool // it is interpreted by what its first line names
	file   *os.File
}

// Prepare checks everything that can be checked before a process is started, and holds its executable, whose
// contents are given. The program is to be closed unless a Supervisor is given it.
func (s *Supervisor) Prepare(spec *Spec, executable []byte) (*Program, error) {
	if err := s.Allowed(); err != nil {
		return nil, err
	}
	who, err := resolve(spec.User, spec.Group)
	if err != nil {
		return nil, err
	}
	if err := s.rules.admit(spec, who); err != nil {
		return nil, err
	}
	if err := s.rules.able(); err != nil {
		return nil, err
	}
	if err := s.groups.provide(spec.Limits); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	if _, err := filter(spec.Syscalls); err != nil {
		return nil, err
	}
	script := bytes.HasPrefix(executable, []byte("#!"))
	if !script && !bytes.HasPrefix(executable, []byte("\x7fELF")) {
		return nil, fmt.Errorf("command: %s is no executable: it is not in ELF format, and has no #! at its beginning", spec.Command)
	}
	digest, err := digest(spec, who, executable)
	if err != nil {
		return nil, err
	}
	file, err := sealed(filepath.Base(spec.Command), executable)
	if err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	return &Program{Digest: digest, spec: *spec, who: who, script: script, file: file}, nil
}

func digest(spec *Spec, who identity, executable []byte) (string, error) {
	text, err := json.Marshal(struct {
		Spec     *Spec
		UID, GID int
		Sum      [sha256.Size]byte
	}{spec, who.uid, who.gid, sha256.Sum256(executable)})
	if err != nil {
		return "", fmt.Errorf("make the digest: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}

// Close lets go of the program.
func (p *Program) Close() error { return p.file.Close() }

// argv are the arguments, the command first.
func (p *Program) argv() []string { return append([]string{p.spec.Command}, p.spec.Args...) }

func (p *Program) environ() []string {
	all := []string{}
	for name, value := range p.spec.Env {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return all
}

// sealed makes a file in memory that can be executed, and never changed again.
func sealed(name string, contents []byte) (*os.File, error) {
	// A file that somebody may write is not executed (ETXTBSY), and a child that is just being forked would be
	// somebody: there is none while this lock is held.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, all can be executed
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	written := os.NewFile(uintptr(fd), name)
	defer written.Close()
	if _, err := written.Write(contents); err != nil {
		return nil, fmt.Errorf("copy it to memory: %w", err)
	}
	// It can be read and executed by all: it is by the user that the process runs as, when it is a script.
	if err := written.Chmod(0o555); err != nil {
		return nil, fmt.Errorf("copy it to memory: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(written.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal its copy in memory: %w", err)
	}
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open its copy in memory: %w", err)
	}
	return file, nil
}
