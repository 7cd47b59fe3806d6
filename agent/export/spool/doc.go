// Package spool is a bounded queue of blocks on disk that survives the death of its process.
//
// A folder holds segments, which are only appended to, and a state file, which says how far they
// have been read and what became of everything that was ever put in. A block is in the spool once
// Append has returned: it is with the operating system, so that it outlives the process, though
// not a loss of power. A block leaves the spool with Done. Between the receiver's answer and Done
// lies the one window in which a block can be delivered twice: an agent killed there delivers the
// block at hand again. Nothing else is delivered twice, and nothing is lost uncounted: what a
// damaged file has lost is told by the numbers in the blocks around it.
//
// All integers on disk are little endian, and every structure carries a CRC-32C:
//
//	segment  "weirspl1", format (40 bytes, zero padded), number u64, CRC u32 of these; then blocks
//	block    "wblk", payload length u32, records u32, CRC of the payload u32, records and bytes of
//	         all blocks before it u64 each, CRC of these u32; then the payload
//	state    two slots, written in turns; each "weirstat", generation u64, segment u64, offset u64,
//	         records and bytes u64 each of: delivered, discarded, damaged, and
//	         refused as full, as the disk was full, for other errors; CRC u32 of these
package spool
