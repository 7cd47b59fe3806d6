// Package member is a member for tests of chains, which writes down for each packet that it ran.
package member

import "bytes"

//go:generate go tool bpf2go -cc clang-16 -target bpfel -type trace -type passage member member.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu

// Object returns the compiled object, to be written to a file.
func Object() []byte { return bytes.Clone(_MemberBytes) }

// Trace is what members did to the packet of a number: Steps entries of Step, in their order.
type Trace = memberTrace

// Passage is a packet on its way through a chain, and how many have strayed.
type Passage = memberPassage

// MaxGenerations is how many generations of a chain the checking members can tell apart.
const MaxGenerations = 1024
