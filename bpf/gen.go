// Package bpf holds the eBPF datapath: its C sources, the generated bindings, and what user
// space needs to load it, attach it, read its tables and collect its garbage. The semantics
// are written in README.md.
package bpf

//go:generate go tool bpf2go -cc clang-16 -target bpfel -type leg -type count -type conn -type conn4 -type conn6 -type event -type work -type answer -type hook -type hook_stats -type lost -type program -type fragment_key -type rule -type slot weir weir.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -cc clang-16 -target bpfel -type entry_copy iter iter.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -cc clang-16 -target bpfel -type move move move.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
//go:generate go tool bpf2go -cc clang-16 -target bpfel count count.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
