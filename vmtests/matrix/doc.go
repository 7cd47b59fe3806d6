// Package matrix runs scenarios on kernels: it boots each kernel once, keeps a snapshot of the
// guest that is ready to work, hands scenarios to restored guests, and makes a verdict of
// whatever happens. Every scenario that was planned is in the result, also when the kernel
// panics, the guest hangs, or the record of the scenario does not arrive.
package matrix
