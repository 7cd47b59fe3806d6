// Package chain puts many eBPF programs on one hook of an interface, in an order, and changes them
// without losing a packet.
//
// A chain's members are built into a generation (package program): programs that hand a packet on
// to each other, complete before a packet sees the first of them. The generation is put where the
// one before was, in one piece (package hook): every packet meets the one or the other, whole.
// Until then nothing that packets meet has changed, so whatever fails before leaves the running
// chain as it was; after it, nothing can fail that matters.
//
// A member can also be one of weir's own programs (a stage). What is built then is a place for it: a member that calls what
// is in a slot, which all generations share. Who runs the program fills the slot, whatever becomes of the chain.
//
// The kernel is the truth. Which generation runs is asked from it; the store (package store) only
// says what is in it. A Manager that was killed at any moment is put right by the next one.
package chain
