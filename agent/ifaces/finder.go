package ifaces

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ways to notice that interfaces come and go.
const (
	Watch = "watch" // the kernel tells; in addition everything is looked at every so often
	Poll  = "poll"  // everything is looked at every so often
)

// Options say what a Finder looks for.
type Options struct {
	Mode string // Watch or Poll
	// Every is how often everything is looked at.
	Every time.Duration
	// Namespaces are the network namespaces: Own, names and patterns below Folder, paths.
	Namespaces []string
	Selector   Selector
}

// Key names an interface for as long as it lives in its namespace.
type Key struct {
	Inode uint64 // of the network namespace
	Index int
}

// Key names the interface.
func (i *Interface) Key() Key { return Key{i.Inode, i.Index} }

// Finder finds interfaces, and tells when to look again. Its methods may not be called concurrently.
type Finder struct {
	opts     Options
	informer informer
}

// informer tells when to look again.
type informer interface {
	// wake gets a value when something may have changed.
	wake() <-chan struct{}
	// follow says which namespaces there are, before they are looked at. Its error is no reason not to.
	follow([]Namespace) error
	// deleted returns interfaces that were deleted since the last call, and whether there may be more.
	deleted() (keys []Key, more bool)
	close() error
}

// Sight is what there is at one time.
type Sight struct {
	Namespaces []Namespace
	// Interfaces are those that the selector chooses.
	Interfaces []Interface
	// Deleted are interfaces that are gone since the last look, also when others have their keys by now.
	Deleted []Key
	// Unsure says that others may have been deleted, too.
	Unsure bool
	// Unseen are namespaces that could not be looked at, and why. Their interfaces may be there.
	Unseen map[uint64]error
	// Deaf is why changes in some namespaces will show only when everything is looked at.
	Deaf error
}

// NewFinder begins to notice changes: what happens after it shows in a value of C.
func NewFinder(opts Options) (*Finder, error) {
	f := &Finder{opts: opts}
	var err error
	switch opts.Mode {
	case Watch:
		f.informer, err = newWatcher(opts.Every, opts.Selector.addresses())
	case Poll:
		f.informer = newPoller(opts.Every)
	default:
		err = fmt.Errorf("mode %q; want %s or %s", opts.Mode, Watch, Poll)
	}
	if err != nil {
		return nil, fmt.Errorf("find interfaces: %w", err)
	}
	return f, nil
}

// C gets a value when it is time to look again.
func (f *Finder) C() <-chan struct{} { return f.informer.wake() }

// Close ends it.
func (f *Finder) Close() error { return f.informer.close() }

// Look looks at all namespaces.
func (f *Finder) Look() (Sight, error) {
	all, err := list(f.opts.Namespaces)
	if err != nil {
		return Sight{}, err
	}
	s := Sight{Namespaces: all, Unseen: map[uint64]error{}}
	s.Deaf = f.informer.follow(all)
	// Before the interfaces are listed: one that is deleted from now on shows at the next look.
	s.Deleted, s.Unsure = f.informer.deleted()
	for _, ns := range all {
		found, err := f.links(ns)
		switch {
		case err == nil:
			s.Interfaces = append(s.Interfaces, found...)
		case !errors.Is(err, os.ErrNotExist): // else the namespace has just gone
			s.Unseen[ns.Inode] = err
		}
	}
	return s, nil
}

// links lists the chosen interfaces of a namespace.
func (f *Finder) links(ns Namespace) (found []Interface, err error) {
	err = Enter(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		all, err := whole(h.LinkList)
		if err != nil {
			return fmt.Errorf("list the interfaces: %w", err)
		}
		addresses, err := f.addresses(h)
		if err != nil {
			return fmt.Errorf("list the addresses: %w", err)
		}
		for _, l := range all {
			attrs := l.Attrs()
			if f.opts.Selector.wants(attrs.Name, addresses[attrs.Index]) {
				found = append(found, interfaceOf(attrs, ns))
			}
		}
		return nil
	})
	return found, err
}

// addresses lists the interfaces' addresses, by index, if the selector asks for them.
func (f *Finder) addresses(h *netlink.Handle) (map[int][]netip.Addr, error) {
	if !f.opts.Selector.addresses() {
		return nil, nil
	}
	all, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	byIndex := map[int][]netip.Addr{}
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			byIndex[a.LinkIndex] = append(byIndex[a.LinkIndex], ip.Unmap())
		}
	}
	return byIndex, nil
}

// attempts bounds how often a list is read that changes meanwhile.
const attempts = 10

// whole reads a list until it has not changed meanwhile.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range attempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func interfaceOf(attrs *netlink.LinkAttrs, ns Namespace) Interface {
	encap := attrs.EncapType
	return Interface{
		Name: attrs.Name, Index: attrs.Index, Namespace: ns.Name, Inode: ns.Inode,
		L3: encap != "ether" && encap != "loopback",
	}
}
