// Package pbflow is the protobuf form of flow records: the messages of flow.proto, generated, and an
// encoder and a decoder between them and the records of package flow.
//
// Field numbers and names below 1000 are those of the NetObserv agent, so that its collectors read
// weir's records. Field 1000 holds what these have no place for: with it, nothing of a record is lost.
package pbflow

//go:generate go run github.com/weirnet/weir/ci/protogen flow.proto
