package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ends are the ends of a machine's lines: ours, and those that QEMU inherits, in the order of the file
// descriptors.
type ends struct {
	console, control io.ReadWriteCloser
	monitor          *net.UnixConn
	theirs           []*os.File
}

// connect makes the machine's lines.
func (m Machine) connect() (*ends, error) {
	line := socketLine
	if m.Exact {
		line = pipeLine
	}
	e := &ends{}
	var err error
	if e.console, err = e.add(line()); err != nil {
		return nil, err
	}
	if e.control, err = e.add(line()); err != nil {
		return nil, errors.Join(err, e.close())
	}
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.monitor, e.theirs = conn, append(e.theirs, theirs)
	return e, nil
}

func (e *ends) add(ours io.ReadWriteCloser, theirs *os.File, err error) (io.ReadWriteCloser, error) {
	if err != nil {
		return nil, err
	}
	e.theirs = append(e.theirs, theirs)
	return ours, nil
}

func (e *ends) close() error {
	e.closeTheirs()
	return e.closeOurs()
}

func (e *ends) closeTheirs() {
	for _, f := range e.theirs {
		_ = f.Close()
	}
}

func (e *ends) closeOurs() error {
	var errs []error
	if e.console != nil {
		errs = append(errs, e.console.Close())
	}
	if e.control != nil {
		errs = append(errs, e.control.Close())
	}
	if e.monitor != nil {
		errs = append(errs, e.monitor.Close())
	}
	return errors.Join(errs...)
}

// socketLine is a line in both directions.
func socketLine() (io.ReadWriteCloser, *os.File, error) {
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	return conn, theirs, nil
}

// pipeSize is what the kernel allows for everybody.
const pipeSize = 1 << 20

// pipeLine is a line from the machine. QEMU writes byte by byte: a socket is full after some hundreds of
// them, and the guest then waits for the host, while a pipe takes a million.
func pipeLine() (io.ReadWriteCloser, *os.File, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	if _, err := unix.FcntlInt(theirs.Fd(), unix.F_SETPIPE_SZ, pipeSize); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("enlarge pipe: %w", err), ours.Close(), theirs.Close())
	}
	return ours, theirs, nil
}

// socketPair gives a connection, and its other end for a child process.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "guest")
	ours := os.NewFile(uintptr(fds[0]), "host")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
