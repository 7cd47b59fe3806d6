package ifaces

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func TestSelector(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fe80::1")}
	for _, test := range []struct {
		name        string
		allow, deny []string
		yes, no     []string
	}{
		{"all", nil, nil, []string{"eth0", "lo"}, nil},
		{"but lo", nil, []string{"lo"}, []string{"eth0", "lo0"}, []string{"lo"}},
		{"name and pattern", []string{"eth0", "/^br-/"}, nil, []string{"eth0", "br-0"}, []string{"eth01", "abr-3", "lo"}},
		{"deny beats allow", []string{"/^eth/", "/^br-/"}, []string{"eth1", "/^br-1/"}, []string{"eth0", "eth10", "br-2"}, []string{"eth1", "br-1", "br-10"}},
		{"IPv4 prefix", []string{"10.1.9.9/16"}, nil, []string{"eth0"}, nil},
		{"IPv6 prefix", []string{"fe80::/10"}, nil, []string{"eth0"}, nil},
		{"other prefix", []string{"10.2.0.0/16"}, nil, nil, []string{"eth0"}},
		{"prefix denied", nil, []string{"10.0.0.0/8"}, nil, []string{"eth0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := NewSelector(test.allow, test.deny)
			require.NoError(t, err)
			for _, name := range test.yes {
				require.True(t, s.wants(name, addresses), name)
			}
			for _, name := range test.no {
				require.False(t, s.wants(name, addresses), name)
			}
		})
	}
	for text, want := range map[string]string{"": "is empty", "/(/": "missing closing", "/": "want a name",
		"10.0.0.0/33": "want a name", "a/b": "want a name"} {
		_, err := NewSelector([]string{"lo", text}, nil)
		require.ErrorContains(t, err, "allow[1]: ", text)
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzSelector(f *testing.F) {
	f.Add("/^veth/")
	f.Add("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, item string) {
		s, err := NewSelector([]string{item}, []string{item})
		if err == nil {
			require.False(t, s.wants("eth0", nil), "what is denied is not wanted")
		}
	})
}

// message is a netlink message about a link.
func message(kind uint16, family uint8, index uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...)
	b = append(b, family, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, index)
	return append(b, make([]byte, 8)...)
}

func TestDeletedLinks(t *testing.T) {
	var data []byte
	data = append(data, message(unix.RTM_NEWLINK, unix.AF_UNSPEC, 3)...)
	data = append(data, message(unix.RTM_DELLINK, unix.AF_UNSPEC, 4)...)
	data = append(data, message(unix.RTM_DELLINK, unix.AF_BRIDGE, 5)...) // has left its bridge
	data = append(data, message(unix.RTM_DELLINK, unix.AF_UNSPEC, 6)...)
	got, err := deletedLinks(data)
	require.NoError(t, err)
	require.Equal(t, []int{4, 6}, got)

	_, err = deletedLinks(data[:60])
	require.Error(t, err)
	short := message(unix.RTM_DELLINK, unix.AF_UNSPEC, 4)[:unix.SizeofNlMsghdr+8]
	binary.NativeEndian.PutUint32(short, uint32(len(short)))
	_, err = deletedLinks(short)
	require.ErrorIs(t, err, errShort)
}

func FuzzDeletedLinks(f *testing.F) {
	f.Add(message(unix.RTM_DELLINK, unix.AF_UNSPEC, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := deletedLinks(data)
		require.LessOrEqual(t, len(got), len(data)/unix.SizeofNlMsghdr)
	})
}

// finder looks in one namespace until the test ends.
func finder(t *testing.T, opts Options) *Finder {
	t.Helper()
	if opts.Every == 0 {
		opts.Every = time.Hour // the kernel is to tell
	}
	f, err := NewFinder(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// until looks whenever the finder says so, until what it sees is right.
func until(t *testing.T, f *Finder, what string, right func(Sight) bool) Sight {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case <-f.C():
		case <-end:
			require.FailNow(t, "waited in vain: "+what)
		}
		s, err := f.Look()
		require.NoError(t, err)
		require.NoError(t, s.Deaf)
		require.Empty(t, s.Unseen)
		if right(s) {
			return s
		}
	}
}

func look(t *testing.T, f *Finder) Sight {
	t.Helper()
	s, err := f.Look()
	require.NoError(t, err)
	return s
}

func has(name string) func(Sight) bool {
	return func(s Sight) bool {
		for _, i := range s.Interfaces {
			if i.Name == name {
				return true
			}
		}
		return false
	}
}

func link(name string, index int) netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index = name, index
	return &netlink.Veth{LinkAttrs: attrs, PeerName: "peer" + name}
}

// TestKinds finds devices of every kind that this kernel has; none of them is up, and some have no
// hardware address.
func TestKinds(t *testing.T) {
	ns := namespace(t)
	f := finder(t, Options{Mode: Watch, Namespaces: []string{ns}})
	look(t, f)
	attrs := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	slave := &netlink.Dummy{LinkAttrs: attrs("member")}
	bond := netlink.NewLinkBond(attrs("bond"))
	kinds := []struct {
		link netlink.Link
		l3   bool
	}{
		{&netlink.Veth{LinkAttrs: attrs("veth"), PeerName: "peer"}, false},
		{&netlink.Bridge{LinkAttrs: attrs("bridge")}, false},
		{&netlink.Tuntap{LinkAttrs: attrs("tun"), Mode: netlink.TUNTAP_MODE_TUN}, true},
		{&netlink.Wireguard{LinkAttrs: attrs("wireguard")}, true},
		{&netlink.Iptun{LinkAttrs: attrs("ipip"), Local: []byte{10, 0, 0, 1}, Remote: []byte{10, 0, 0, 2}}, true},
		{&netlink.Vxlan{LinkAttrs: attrs("vxlan"), VxlanId: 7, Port: 4789}, false},
		{bond, false},
		{slave, false},
	}
	made := map[string]bool{}
	for _, k := range kinds {
		err := Do(ns, func() error { return netlink.LinkAdd(k.link) })
		name := k.link.Attrs().Name
		if err != nil {
			t.Logf("no %s here: %v", name, err)
			continue
		}
		made[name] = true
		until(t, f, name, has(name))
	}
	require.GreaterOrEqual(t, len(made), 1, "no kernel has none of them")
	if made["bond"] && made["member"] {
		require.NoError(t, Do(ns, func() error { return netlink.LinkSetBondSlave(slave, bond) }))
	}
	s := look(t, f)
	found := map[string]Interface{}
	for _, i := range s.Interfaces {
		found[i.Name] = i
	}
	for _, k := range kinds {
		name := k.link.Attrs().Name
		if !made[name] {
			continue
		}
		require.Contains(t, found, name)
		require.Equal(t, k.l3, found[name].L3, name)
	}
}

// TestDeletedShows deletes an interface and makes one with the same name and index before the look.
func TestDeletedShows(t *testing.T) {
	ns := namespace(t)
	f := finder(t, Options{Mode: Watch, Namespaces: []string{ns}})
	require.Empty(t, look(t, f).Deleted)
	add := func() error { return netlink.LinkAdd(link("eth0", 42)) }
	require.NoError(t, Do(ns, add))
	s := until(t, f, "the interface", has("eth0"))
	require.False(t, s.Unsure)
	require.Empty(t, s.Deleted)
	inode, err := inodeOf(ns)
	require.NoError(t, err)
	key := Key{inode, 42}
	require.NoError(t, Do(ns, func() error {
		if err := netlink.LinkDel(link("eth0", 42)); err != nil {
			return err
		}
		return add()
	}))
	until(t, f, "the deletion", func(s Sight) bool {
		for _, k := range s.Deleted {
			if k == key {
				require.True(t, has("eth0")(s), "the new one is there")
				return true
			}
		}
		return false
	})
}

// TestAddresses has an interface get an address by which it is chosen, and lose it.
func TestAddresses(t *testing.T) {
	ns := namespace(t)
	selector, err := NewSelector([]string{"10.0.0.0/8"}, nil)
	require.NoError(t, err)
	f := finder(t, Options{Mode: Watch, Namespaces: []string{ns}, Selector: selector})
	require.NoError(t, Do(ns, func() error { return netlink.LinkAdd(link("eth0", 42)) }))
	require.Empty(t, look(t, f).Interfaces)
	address, err := netlink.ParseAddr("10.1.2.3/24")
	require.NoError(t, err)
	require.NoError(t, Do(ns, func() error { return netlink.AddrAdd(link("eth0", 42), address) }))
	until(t, f, "the address", has("eth0"))
	require.NoError(t, Do(ns, func() error { return netlink.AddrDel(link("eth0", 42), address) }))
	until(t, f, "the loss of the address", func(s Sight) bool { return !has("eth0")(s) })
}

// TestNamespaces has a namespace come and go, whose mount is what the kernel tells of.
func TestNamespaces(t *testing.T) {
	path := namespace(t)
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	f := finder(t, Options{Mode: Watch, Namespaces: []string{path, other, "no-such-*", path + "-missing"}})
	require.Len(t, look(t, f).Namespaces, 1, "a file that is no namespace is none yet")
	require.NoError(t, unix.Mount(path, other, "none", unix.MS_BIND, ""))
	until(t, f, "the mount", func(s Sight) bool { return len(s.Namespaces) == 1 })
	require.NoError(t, unix.Unmount(other, unix.MNT_DETACH))

	second := namespace(t)
	require.NoError(t, unix.Mount(second, other, "none", unix.MS_BIND, ""))
	s := until(t, f, "the second namespace", func(s Sight) bool { return len(s.Namespaces) == 2 })
	require.Equal(t, other, s.Namespaces[1].Name)
	require.ErrorIs(t, Enter(Namespace{other, s.Namespaces[0].Inode}, func() error { return nil }), os.ErrNotExist,
		"another one has its name")
	require.NoError(t, Enter(s.Namespaces[1], func() error { return nil }))
	require.NoError(t, unix.Unmount(other, unix.MNT_DETACH))
	until(t, f, "the loss of its name", func(s Sight) bool { return len(s.Namespaces) == 1 })
}

func TestPoll(t *testing.T) {
	ns := namespace(t)
	f := finder(t, Options{Mode: Poll, Every: time.Millisecond, Namespaces: []string{ns}})
	require.NoError(t, Do(ns, func() error { return netlink.LinkAdd(link("eth0", 42)) }))
	s := until(t, f, "the interface", has("eth0"))
	require.True(t, s.Unsure)
	require.NoError(t, Do(ns, func() error { return netlink.LinkDel(link("eth0", 42)) }))
	until(t, f, "its end", func(s Sight) bool { return !has("eth0")(s) })
}

func TestFinderOptions(t *testing.T) {
	_, err := NewFinder(Options{Mode: "listen", Every: time.Second})
	require.ErrorContains(t, err, `mode "listen"; want watch or poll`)
	require.Error(t, CheckNamespace("["))
	require.Error(t, CheckNamespace(""))
	for _, ok := range []string{Own, "*", "cni-*", "/proc/1/ns/net"} {
		require.NoError(t, CheckNamespace(ok))
	}
}
