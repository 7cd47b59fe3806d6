// Package kernel finds, fetches and keeps the kernels that scenarios run on.
//
// A kernel is named by its line ("6.12"), because exact versions vanish from the mirrors. A line
// is resolved to the newest package of that line in Debian's archive, cloud-amd64 flavour, and
// fetched by the ordinary apt client with private lists, state and cache: nothing is installed,
// the machine's own apt configuration is not touched, and signatures are checked by apt. What was
// resolved is written down, so that a later run needs no network.
//
// A kernel can also be a path: a folder in little-vm-helper's layout or a bzImage file.
package kernel
