//go:build !amd64

package process

import "golang.org/x/sys/unix"

// refusedHere are those of refused that not all architectures have.
var refusedHere = map[string]uint32{"kexec_file_load": unix.SYS_KEXEC_FILE_LOAD}
