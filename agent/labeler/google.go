package labeler

import "encoding/json"

// GCPIPRanges is https://www.gstatic.com/ipranges/cloud.json: addresses of customers of Google
// Cloud.
type GCPIPRanges struct {
	SyncToken    string      `json:"syncToken"`
	CreationTime string      `json:"creationTime"`
	Prefixes     []GCPPrefix `json:"prefixes"`
}

// GCPPrefix is a prefix of either family; the other one is empty. Scope is the region.
type GCPPrefix struct {
	IPv4PrefixStr string `json:"ipv4Prefix,omitempty"`
	IPv6PrefixStr string `json:"ipv6Prefix,omitempty"`
	Service       string `json:"service"`
	Scope         string `json:"scope"`
}

// GoogleIPRanges is https://www.gstatic.com/ipranges/goog.json: all addresses that Google
// announces.
type GoogleIPRanges struct {
	SyncToken    string          `json:"syncToken"`
	CreationTime string          `json:"creationTime"`
	Prefixes     []GoogleIPRange `json:"prefixes"`
}

// GoogleIPRange is a prefix of either family; the other one is empty.
type GoogleIPRange struct {
	IPv4PrefixStr string `json:"ipv4Prefix,omitempty"`
	IPv6PrefixStr string `json:"ipv6Prefix,omitempty"`
}

// googleCloudService is "Google Cloud", the service of all prefixes of Google Cloud, normalised.
const googleCloudService = "googlecloud"

func parseGCP(data []byte) (File, error) {
	var all GCPIPRanges
	if err := json.Unmarshal(data, &all); err != nil {
		return File{}, err
	}
	f := newFile(len(all.Prefixes))
	ranges := sharedRanges{}
	for _, p := range all.Prefixes {
		f.addEither(p.IPv4PrefixStr, p.IPv6PrefixStr, ranges.of(GCP, p.Service, p.Scope))
	}
	return f, nil
}

func parseGoogle(data []byte) (File, error) {
	var all GoogleIPRanges
	if err := json.Unmarshal(data, &all); err != nil {
		return File{}, err
	}
	f := newFile(len(all.Prefixes))
	r := &Range{Cloud: GCP, Service: GoogleService, Region: GoogleGlobalRegion}
	for _, p := range all.Prefixes {
		f.addEither(p.IPv4PrefixStr, p.IPv6PrefixStr, r)
	}
	return f, nil
}

func (f *File) addEither(v4, v6 string, r *Range) {
	if v4 == "" {
		v4 = v6
	}
	f.add(v4, r)
}
