package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/bpffs"
	"github.com/weirnet/weir/agent/control"
)

// claim makes sure that no other agent has the control socket or the pin folder, before anything is
// adopted: a second agent would take over the first one's tables while that one drains them.
func (a *Agent) claim() error {
	if a.cfg.Control != "" && control.Answers(a.cfg.Control) {
		return fmt.Errorf("control socket %s: %w", a.cfg.Control, control.ErrTaken)
	}
	if a.cfg.Pin == "" || a.dp != nil {
		return nil
	}
	if err := bpffs.Ensure(a.cfg.Pin); err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.Pin, 0o700); err != nil {
		return fmt.Errorf("make the pin folder: %w", err)
	}
	f, err := os.Open(a.cfg.Pin)
	if err != nil {
		return fmt.Errorf("open the pin folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("pin folder %s: another agent uses it", a.cfg.Pin)
		}
		return fmt.Errorf("lock the pin folder %s: %w", a.cfg.Pin, err)
	}
	a.lock = f // the kernel takes the lock back however the agent ends
	return nil
}
