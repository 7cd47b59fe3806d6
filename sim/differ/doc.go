// Package differ puts the datapath and the reference model side by side: the same frames go
// through the real BPF program, by BPF_PROG_TEST_RUN, and through sim/model, and what both say
// afterwards is compared: the counters of every hook, the whole connection table, and what ended.
//
// It has two users. Vectors are frames with what is to come of them, in the files below
// testdata/vectors, which run on every kernel. The fuzzer draws frames at random; what it finds
// is shrunk and written down as a vector, a scenario and a capture.
//
// What cannot be made this way is left to scenarios: packets that are not linear, and frames of
// fewer than 14 bytes.
package differ
