// Package traffic turns the traffic steps of a scenario into frames and sends them.
//
// The Builder is pure: from a step and a topology to an ordered list of frames, each with the
// interface it leaves from, with every byte decided. The Engine sends them on a topology that
// stands, and knows after each frame when the kernel has finished with it.
//
// # Why nothing here sleeps
//
// A frame sent into a veth pair is queued on the backlog of the CPU that sends it (netif_rx),
// and so is whatever the kernel sends because of it: the forwarded frame, the reply. The
// backlog is a FIFO. So the Engine does all its sending on one thread that is bound to one CPU,
// and behind a frame it sends a marker through a veth pair of its own, in a namespace of its
// own. When the marker comes out at the other end, everything queued before it has been
// processed: one hop. As many markers, one after the other, as a frame can have hops, and all
// its consequences are over. This holds whether the backlog runs at the end of the send call or
// is put off to ksoftirqd, however loaded the machine is.
package traffic
