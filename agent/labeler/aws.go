package labeler

import "encoding/json"

// AWSIPRanges is https://ip-ranges.amazonaws.com/ip-ranges.json, documented in "AWS IP address
// ranges" of the Amazon VPC user guide.
type AWSIPRanges struct {
	SyncToken    string          `json:"syncToken"`
	CreateDate   string          `json:"createDate"`
	Prefixes     []AWSPrefix     `json:"prefixes"`
	IPv6Prefixes []AWSIPv6Prefix `json:"ipv6_prefixes"`
}

// AWSPrefix is an IPv4 prefix of AWS.
type AWSPrefix struct {
	IPPrefix           string `json:"ip_prefix"`
	Region             string `json:"region"`
	Service            string `json:"service"`
	NetworkBorderGroup string `json:"network_border_group"`
}

// AWSIPv6Prefix is an IPv6 prefix of AWS.
type AWSIPv6Prefix struct {
	IPv6Prefix         string `json:"ipv6_prefix"`
	Region             string `json:"region"`
	Service            string `json:"service"`
	NetworkBorderGroup string `json:"network_border_group"`
}

func parseAWS(data []byte) (File, error) {
	var all AWSIPRanges
	if err := json.Unmarshal(data, &all); err != nil {
		return File{}, err
	}
	f := newFile(len(all.Prefixes) + len(all.IPv6Prefixes))
	ranges := sharedRanges{}
	for _, p := range all.Prefixes {
		f.add(p.IPPrefix, ranges.of(AWS, p.Service, p.Region))
	}
	for _, p := range all.IPv6Prefixes {
		f.add(p.IPv6Prefix, ranges.of(AWS, p.Service, p.Region))
	}
	return f, nil
}
