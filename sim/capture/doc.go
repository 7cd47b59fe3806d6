// Package capture is the independent witness of a scenario: it sees, through packet sockets,
// every packet that passes a watched interface, and knows nothing of the agent.
//
// # Order
//
// One socket hears all interfaces of a network namespace, so the packets of one namespace come
// in the order in which they passed. Between namespaces the topology tells what came before
// what: a frame leaves one end of a veth pair before it arrives at the other. Drain merges the
// namespaces by that rule, and lets each frame travel as far as it gets before the next one
// starts, which is what the kernel does when nothing holds it up.
//
// # Where the sockets look
//
// On ingress a packet socket sees a frame just before tc and tcx programs do, on egress just
// after them; between the two nothing is dropped. What the IP stack drops later, and what a
// veth pair drops because the other end is down, has been seen.
package capture
