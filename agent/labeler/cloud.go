package labeler

import (
	"fmt"
	"strings"
)

// Cloud is a cloud provider's name; "" is none.
type Cloud string

// The clouds whose address ranges are understood.
const (
	AWS   Cloud = "aws"
	GCP   Cloud = "gcp"
	Azure Cloud = "azure"
)

// Names of services and regions that have a meaning of their own, normalised.
const (
	AmazonService      = "amazon"
	AmazonS3           = "s3"
	AmazonGlobalRegion = "global"

	GoogleService      = "googleservice"
	GoogleGlobalRegion = "global"

	AzureStorageService = "azurestorage"
	AzureCloudService   = "azurecloud"
	AzureService        = "azureservice"
	AzureGlobalRegion   = "global"
)

const (
	amazonEC2    = "ec2"
	globalRegion = "global" // in all three clouds
)

// NewCloud checks a cloud's name.
func NewCloud(name string) (Cloud, error) {
	switch c := Cloud(NormalizeCloudString(name)); c {
	case AWS, GCP, Azure:
		return c, nil
	}
	return "", fmt.Errorf("cloud %q: want aws, gcp or azure", name)
}

// NormalizeCloudString makes names of clouds, services and regions comparable: lower case, no
// spaces.
func NormalizeCloudString(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), " ", "")
}

// CloudOfProvider reads a node's providerID, "aws:///eu-west-1a/i-0abc": its scheme names the
// cloud (the cloud providers of kubernetes/cloud-provider).
func CloudOfProvider(id string) Cloud {
	scheme, _, _ := strings.Cut(id, "://")
	switch scheme {
	case "aws":
		return AWS
	case "gce":
		return GCP
	case "azure":
		return Azure
	}
	return ""
}

// Environment says what an installation is for. It changes no label.
type Environment string

// The environments.
const (
	Development Environment = "development"
	Staging     Environment = "staging"
	Production  Environment = "production"
)

// NewEnvironment checks an environment's name.
func NewEnvironment(name string) (Environment, error) {
	switch e := Environment(name); e {
	case Development, Staging, Production:
		return e, nil
	}
	return "", fmt.Errorf("environment %q: want %s, %s or %s", name, Development, Staging, Production)
}

// String returns the name.
func (e Environment) String() string { return string(e) }
