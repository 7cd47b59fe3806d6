package process

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is struct sigaction of the kernel (include/linux/signal_types.h).
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

const (
	ignored    = 1  // SIG_IGN
	lastSignal = 64 // _NSIG
)

// heed makes no signal one that is ignored: that would outlast the execution, and may come from whatever has
// executed the agent. What is handled becomes the default by itself.
func heed() error {
	for n := uintptr(1); n <= lastSignal; n++ {
		var now, usual sigaction
		if err := rtSigaction(n, nil, &now); err != nil {
			return err
		}
		if now.handler != ignored {
			continue
		}
		if err := rtSigaction(n, &usual, nil); err != nil {
			return err
		}
	}
	return nil
}

func rtSigaction(n uintptr, to, from *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)),
		unsafe.Sizeof(to.mask), 0, 0)
	if errno != 0 {
		return fmt.Errorf("heed signal %d: %w", n, errno)
	}
	return nil
}
