package guest

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelLog reads the kernel's log from where it was opened on. Unlike the console it has every
// level, and a place in it is exact: what is read between two points was logged between them.
type kernelLog struct{ fd int }

// openKernelLog opens the log at its end, or at its beginning.
func openKernelLog(atEnd bool) (*kernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open kernel log: %w", err)
	}
	if atEnd {
		if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
			return nil, fmt.Errorf("open kernel log: %w", err)
		}
	}
	return &kernelLog{fd}, nil
}

// drain gives what was logged since the last call. The guest's own markers are left out.
func (k *kernelLog) drain() []string {
	var lines []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(k.fd, buf)
		switch {
		case errors.Is(err, unix.EPIPE):
			lines = append(lines, "[the kernel logged more than its buffer holds]")
		case errors.Is(err, unix.EINTR):
		case err != nil: // EAGAIN: no more
			return lines
		default:
			if l := kernelLine(string(buf[:n])); !strings.Contains(l, "] weir: scenario ") {
				lines = append(lines, l)
			}
		}
	}
}

// mark writes a line to the log at a level that reaches the console.
func (k *kernelLog) mark(text string) {
	_, _ = unix.Write(k.fd, []byte("<3>"+text+"\n"))
}

// kernelLine makes a record of /dev/kmsg look like a line of the console:
// "4,123,5000000,-;text\n KEY=value\n" becomes "[    5.000000] text".
func kernelLine(record string) string {
	head, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	fields := strings.SplitN(head, ",", 4)
	if len(fields) < 3 {
		return text
	}
	us, err := strconv.ParseUint(fields[2], 10, 64)
	if err != nil {
		return text
	}
	return fmt.Sprintf("[%5d.%06d] %s", us/1e6, us%1e6, text)
}

// lastKernelLines is the end of the whole log.
func lastKernelLines() []string {
	k, err := openKernelLog(false)
	if err != nil {
		return nil
	}
	defer unix.Close(k.fd)
	lines := k.drain()
	return lines[max(0, len(lines)-100):]
}
