package guest

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lineDevice is the second serial line, the channel to the host.
const lineDevice = "/dev/ttyS1"

// drainLine waits until what was written has left the machine. Otherwise it would be lost with a
// machine that dies right after.
func drainLine(f *os.File) {
	_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
}

// openLine opens the channel and takes all interpretation of bytes off it. The speed matters
// although nothing is really sent: the emulated UART signals the end of a burst after the time
// of four characters.
func openLine() (*os.File, error) {
	f, err := os.OpenFile(lineDevice, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	t := unix.Termios{
		Cflag:  unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200,
		Ispeed: 115200,
		Ospeed: 115200,
	}
	t.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &t); err != nil {
		return nil, fmt.Errorf("set channel to raw: %w", err)
	}
	return f, nil
}
