// Package trace holds the optional features of the agent: eBPF programs at tracepoints of the
// kernel, each an object of its own. They touch nothing of the packet path, and a feature that
// is off is not in the kernel at all.
//
//   - drops counts the packets that the kernel drops, with the kernel's reason.
//   - rtt reads the smoothed round-trip time of TCP sockets.
//
// Each counts in two tables by turns: user space gives the turn to the other table, waits until
// no program can still be writing to the first, and empties it. So nothing is counted between
// reading and deleting, and nothing gets lost there.
package trace

//go:generate go tool bpf2go -cc clang-16 -target bpfel -type tuple -type drop drops drops.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -cc clang-16 -target bpfel -type tuple -type round_trip rtt rtt.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
