// Package sockets holds an optional feature: it learns of which control groups the sockets are that send
// packets through the agent's hooks. README.md says what it tells.
package sockets

//go:generate go tool bpf2go -cc clang-16 -target bpfel -type tuple -type sender sockets sockets.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
