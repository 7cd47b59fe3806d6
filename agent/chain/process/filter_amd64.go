package process

import "golang.org/x/sys/unix"

// refusedHere are those of refused that not all architectures have.
var refusedHere = map[string]uint32{
	"kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "create_module": unix.SYS_CREATE_MODULE, "iopl": unix.SYS_IOPL,
	"ioperm": unix.SYS_IOPERM, "modify_ldt": unix.SYS_MODIFY_LDT, "uselib": unix.SYS_USELIB, "lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE,
}
