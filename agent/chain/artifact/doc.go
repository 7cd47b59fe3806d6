// Package artifact gets eBPF objects from where they are published: a file, an HTTP server, or an OCI
// image layout on disk, on its own or within an archive. Nothing is unpacked to disk and nothing is
// executed: an object is read into memory, bounded, and is what its checksum says.
package artifact
