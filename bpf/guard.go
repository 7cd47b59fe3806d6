package bpf

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ErrGuarded is returned by Attach when another agent has its tc filter on the hook.
var ErrGuarded = errors.New("another agent has its tc filter there")

// guard keeps other agents from a hook that is to get a tc filter: theirs has the same place, and would take ours
// away. Links stand beside each other and need none. It is an abstract unix socket in the process's own network
// namespace, which the kernel takes back however the process ends. One in the hook's namespace would keep that
// alive.
func (d *Datapath) guard(a *Attachment) error {
	name := fmt.Sprintf("@weir/%d/%d/%t", a.Namespace, a.Interface, a.Egress)
	var c *net.UnixConn
	var err error
	done := make(chan struct{})
	go func() { // the calling thread is in the hook's namespace
		defer close(done)
		c, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	}()
	<-done
	if errors.Is(err, syscall.EADDRINUSE) {
		return ErrGuarded
	}
	if err != nil {
		return fmt.Errorf("guard the hook: %w", err)
	}
	d.guards[a.Number] = c
	return nil
}

// unguard lets other agents have the hook.
func (d *Datapath) unguard(number uint16) error {
	c := d.guards[number]
	if c == nil {
		return nil
	}
	delete(d.guards, number)
	return c.Close()
}
