// Package labeler tells who owns an address, now and at a time in the past, and what kind of way
// lies between two addresses.
//
// Clusters know pods, nodes and services, each with the time in which it had its addresses.
// Ranges know the address ranges of cloud providers and of the user. A Labeler asks the clusters
// first: an owner in a cluster beats any range.
//
// The package reads no clock, file or network: sources (packages kube, static and fetch below)
// bring objects and the time. Times are nanoseconds since the Unix epoch.
//
// With Options.Strict, LabelFlow behaves like the labeler of kubenetmon (ClickHouse), with its
// errors and its limits, for those who move from it; see agent/REFERENCE.md.
package labeler
