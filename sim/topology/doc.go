// Package topology builds the network of a scenario from Linux network namespaces, and removes
// it.
//
// # Nothing on the wire but the scenario's own packets
//
// A golden file counts every packet, so the kernel must not add any. Interfaces are NOARP and
// not MULTICAST: that keeps out ARP, neighbour discovery, duplicate address detection, router
// solicitations, and the MLD reports for solicited-node and all-routers groups, for which there
// is no switch of their own. Neighbours are permanent entries instead. On hosts without a stack
// the addresses are not configured in the kernel at all: it then drops what it gets in silence.
// On hosts with a stack the networks on the link are made of one route for each neighbour and
// an unreachable route for the rest, so that a packet to an address of no host is answered as
// after failed address resolution, at once and without the attempts.
//
// # Whose namespaces
//
// Every network has an owner file, locked by the process as long as it lives, with the names of
// its namespaces in it. The kernel gives the lock back when the process is killed, so Sweep can
// tell leftovers from the networks of other live processes, whatever became of the process id.
package topology
