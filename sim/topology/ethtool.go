package topology

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The parts of linux/ethtool.h that x/sys does not have.
const (
	stringLength   = 32 // ETH_GSTRING_LEN
	featureStrings = 4  // ETH_SS_FEATURES
)

// ifreq is struct ifreq with a pointer as its data.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte // the union is larger than a pointer
}

// stringSetInfo is struct ethtool_sset_info for one string set.
type stringSetInfo struct {
	cmd, reserved uint32
	mask          uint64
	count         uint32
	_             uint32
}

// ethtool carries out one ethtool command on an interface of the host.
func (h *host) ethtool(name string, data unsafe.Pointer) error {
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	r.data = data
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(h.ioctl), unix.SIOCETHTOOL,
		uintptr(unsafe.Pointer(&r)))
	runtime.KeepAlive(data)
	if errno != 0 {
		return errno
	}
	return nil
}

// offloadsOff makes the kernel put on the wire what a card would: full checksums, no packet
// that stands for several.
func (n *Network) offloadsOff(h *host) error {
	for _, i := range h.spec.Interfaces {
		if err := n.offloadsOffOf(h, i.Name); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) offloadsOffOf(h *host, name string) (err error) {
	if n.features == nil {
		n.features, err = h.featureNames(name)
	}
	if err == nil {
		err = h.clearFeatures(name, n.features)
	}
	// A device without ethtool operations has no offloads either.
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// featureNames lists the features that the kernel knows; the position is the feature's bit.
// The list is the same for all devices of a kernel and differs between kernels.
func (h *host) featureNames(name string) ([]string, error) {
	info := stringSetInfo{cmd: unix.ETHTOOL_GSSET_INFO, mask: 1 << featureStrings}
	if err := h.ethtool(name, unsafe.Pointer(&info)); err != nil {
		return nil, err
	}
	const header = 12 // struct ethtool_gstrings: cmd, string_set, len
	buf := make([]uint32, (header+int(info.count)*stringLength)/4)
	buf[0], buf[1], buf[2] = unix.ETHTOOL_GSTRINGS, featureStrings, info.count
	if err := h.ethtool(name, unsafe.Pointer(&buf[0])); err != nil {
		return nil, err
	}
	text := unsafe.Slice((*byte)(unsafe.Pointer(&buf[header/4])), int(info.count)*stringLength)
	names := make([]string, info.count)
	for i := range names {
		names[i] = unix.ByteSliceToString(text[i*stringLength : (i+1)*stringLength])
	}
	return names, nil
}

// unwanted tells whether a feature changes what is on the wire.
func unwanted(feature string) bool {
	return strings.HasPrefix(feature, "tx-checksum-") || strings.HasPrefix(feature, "rx-gro") ||
		strings.HasPrefix(feature, "tx-scatter-gather") || feature == "tx-gso-list" ||
		strings.HasPrefix(feature, "tx-") && strings.HasSuffix(feature, "segmentation")
}

// clearFeatures switches the unwanted features off. Features that a device cannot change are
// left as they are: that is not an error.
func (h *host) clearFeatures(name string, names []string) error {
	blocks := (len(names) + 31) / 32
	// struct ethtool_sfeatures: cmd, size, then {valid, requested} for each 32 features.
	buf := make([]uint32, 2+2*blocks)
	buf[0], buf[1] = unix.ETHTOOL_SFEATURES, uint32(blocks)
	for bit, feature := range names {
		if unwanted(feature) {
			buf[2+2*(bit/32)] |= 1 << (bit % 32)
		}
	}
	return h.ethtool(name, unsafe.Pointer(&buf[0]))
}
