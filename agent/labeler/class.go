package labeler

import (
	"fmt"
	"slices"
	"strings"
)

// ConnectionClass says what kind of way lies between the two ends, and so what the traffic costs.
// docs/labels.md explains each.
type ConnectionClass string

// The classes, from near to far.
const (
	SameHost       ConnectionClass = "SAME_HOST"       // both ends on one node
	IntraZone      ConnectionClass = "INTRA_ZONE"      // two nodes in one zone
	InterZone      ConnectionClass = "INTER_ZONE"      // two zones of one region
	IntraVPC       ConnectionClass = "INTRA_VPC"       // in one network; where in it is not known
	IntraRegion    ConnectionClass = "INTRA_REGION"    // one region, zones not known
	InterRegion    ConnectionClass = "INTER_REGION"    // two regions of one cloud
	PrivateOther   ConnectionClass = "PRIVATE_OTHER"   // a private address that nobody claims
	PublicInternet ConnectionClass = "PUBLIC_INTERNET" // over the Internet, or to another cloud
	Unknown        ConnectionClass = "UNKNOWN"         // it cannot be told
)

// Classes lists all classes, from near to far.
func Classes() []ConnectionClass {
	return []ConnectionClass{SameHost, IntraZone, InterZone, IntraVPC, IntraRegion, InterRegion,
		PrivateOther, PublicInternet, Unknown}
}

// String returns the class's name.
func (c ConnectionClass) String() string { return string(c) }

// ParseConnectionClass reads a class's name in any case.
func ParseConnectionClass(s string) (ConnectionClass, error) {
	c := ConnectionClass(strings.ToUpper(s))
	if !slices.Contains(Classes(), c) {
		return "", fmt.Errorf("class %q: there are %v", s, Classes())
	}
	return c, nil
}

// place is where an end is, as far as it is known.
type place struct {
	cluster, node, zone, region string
	cloud                       Cloud
}

// between tells the class between two places of which something is known. Two clusters are not
// taken for one network: without regions nothing can be said of the way between them.
func between(a, b place) ConnectionClass {
	sameCluster := a.cluster == b.cluster
	switch {
	case a.cloud != b.cloud && a.cloud != "" && b.cloud != "":
		return PublicInternet
	case a.node != "" && a.node == b.node && sameCluster:
		return SameHost
	case a.region != "" && b.region != "" && a.region != b.region &&
		a.region != globalRegion && b.region != globalRegion:
		return InterRegion
	case a.zone != "" && b.zone != "":
		if a.zone == b.zone {
			return IntraZone
		}
		return InterZone
	case a.region != "" && b.region != "":
		return IntraRegion // or one is global: the cheapest is assumed
	case sameCluster && a.cluster != "":
		return IntraVPC
	}
	return Unknown
}
