// Package vmtests is `weir vm`: it runs scenarios on many kernels in virtual machines. The parts
// are in the folders below: kernel (where kernels come from), initramfs and guest (what runs in
// a machine), wire (how host and guest talk), qemu (machines), splat (trouble in a kernel's log),
// matrix (scenarios times kernels) and report.
package vmtests
