package labeler

import (
	"encoding/json"
	"strings"
)

// AzureIPRanges is ServiceTags_Public_<date>.json, "Azure IP Ranges and Service Tags" of
// Microsoft's download center.
type AzureIPRanges struct {
	ChangeNumber int                `json:"changeNumber"`
	Cloud        string             `json:"cloud"`
	PrefixGroups []AzurePrefixGroup `json:"values"`
}

// AzurePrefixGroup is a service tag.
type AzurePrefixGroup struct {
	Name       string                     `json:"name"`
	ID         string                     `json:"id"`
	Properties AzurePrefixGroupProperties `json:"properties"`
}

// AzurePrefixGroupProperties are a service tag's prefixes, of both families, and what they are
// for. Region is empty when they are not of one region.
type AzurePrefixGroupProperties struct {
	ChangeNumber    int      `json:"changeNumber"`
	Region          string   `json:"region"`
	RegionID        int      `json:"regionId"`
	Platform        string   `json:"platform"`
	SystemService   string   `json:"systemService"`
	AddressPrefixes []string `json:"addressPrefixes"`
	NetworkFeatures []string `json:"networkFeatures"`
}

// parseAzure keeps a service's spelling, on which Strict mode depends: see strictReplaces.
func parseAzure(data []byte) (File, error) {
	var all AzureIPRanges
	if err := json.Unmarshal(data, &all); err != nil {
		return File{}, err
	}
	prefixes := 0
	for i := range all.PrefixGroups {
		prefixes += len(all.PrefixGroups[i].Properties.AddressPrefixes)
	}
	f := newFile(prefixes)
	for i := range all.PrefixGroups {
		g := &all.PrefixGroups[i]
		r := &Range{Cloud: Azure, Service: strings.ReplaceAll(g.Properties.SystemService, " ", ""),
			Region: NormalizeCloudString(g.Properties.Region)}
		if r.Service == "" {
			r.Service = AzureService
			if strings.Contains(NormalizeCloudString(g.Name), AzureCloudService) {
				r.Service = AzureCloudService
			}
		}
		if r.Region == "" {
			r.Region = AzureGlobalRegion
		}
		for _, p := range g.Properties.AddressPrefixes {
			f.add(p, r)
		}
	}
	return f, nil
}
