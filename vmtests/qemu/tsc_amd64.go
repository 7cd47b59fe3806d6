package qemu

// readTSC reads the CPU's time stamp counter, which is what an emulated guest reads as its own.
func readTSC() uint64
