package agent

import (
	"debug/elf"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// giveBack gives back the memory that only the start of an agent took, dozens of megabytes: what is known of
// the kernel's types above all, and the pages of the program whose code or constants will not be used again. Those
// that will are mapped once more from the kernel's cache.
func giveBack() error {
	debug.FreeOSMemory()
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("look where the program is in memory: %w", err)
	}
	defer program.Close()
	if program.Type != elf.ET_EXEC { // the file does not say where it is
		return nil
	}
	for _, p := range program.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_W != 0 {
			continue
		}
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(p.Vaddr), uintptr(p.Filesz), unix.MADV_DONTNEED)
		if errno != 0 {
			return fmt.Errorf("give back pages of the program: %w", errno)
		}
	}
	return nil
}
