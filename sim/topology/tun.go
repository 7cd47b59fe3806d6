package topology

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/sim/spec"
)

// tunDevice is where tun and tap interfaces are made.
const tunDevice = "/dev/net/tun"

// openTun makes a tun, or a tap, which has Ethernet headers. It lives as long as its file.
func (n *Network) openTun(h *host, i *spec.Interface) (fd int, err error) {
	err = n.Do(h.spec.Name, func() error {
		fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			return &Unsupported{Feature: "tun", Err: err}
		}
		if err != nil {
			return err
		}
		if err := tunAttach(fd, i); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("make %s: %w", i.Name, err)
	}
	h.conn.queue("MTU of "+i.Name, mtuRequest(i))
	if !i.Kind.L3() {
		h.queueMAC(i)
	}
	return fd, h.conn.flush()
}

func tunAttach(fd int, i *spec.Interface) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETIFINDEX, i.Index); err != nil {
		return fmt.Errorf("set the index: %w", err)
	}
	r, err := unix.NewIfreq(i.Name)
	if err != nil {
		return err
	}
	mode := uint16(unix.IFF_TAP)
	if i.Kind.L3() {
		mode = unix.IFF_TUN
	}
	r.SetUint16(mode | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
}

// Wire is the file behind an interface whose packets go through this process: what is read was sent
// from the interface, what is written arrives at it. It does not block, and belongs to the Network.
func (n *Network) Wire(p spec.Port) (fd int, ok bool) {
	fd, ok = n.host(p.Host).wires[p.Interface]
	return fd, ok
}
