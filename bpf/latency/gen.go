// Package latency holds the optional features that watch packets at the agent's hooks: eBPF
// programs beside the packet path, each an object with attachments and maps of its own.
//
//   - dns follows DNS transactions.
//   - handshake times the handshakes of TCP connections.
//
// They change no packet and no connection. README.md says what they tell.
package latency

//go:generate go tool bpf2go -cc clang-16 -target bpfel -type response -type reason -type outcome dns dns.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -cc clang-16 -target bpfel -type completed handshake handshake.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
