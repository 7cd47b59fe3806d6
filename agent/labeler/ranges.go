package labeler

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/weirnet/weir/agent/flow"
)

// Range is what is known of the addresses of a prefix. Texts of clouds are normalised.
type Range struct {
	Cloud   Cloud
	Service string // e.g. s3
	Region  string
	// Name, Zone and Class are of the user's ranges.
	Name  string
	Zone  string
	Class ConnectionClass
}

// Entry is a prefix with its range. There are many more prefixes than ranges: entries share them,
// and they must not be changed.
type Entry struct {
	Prefix netip.Prefix
	Range  *Range
}

// Provider is a publisher of address ranges.
type Provider string

// The providers. Google publishes two files: one of its cloud's customers, one of all that is its.
const (
	ProviderAWS    Provider = "aws"
	ProviderGCP    Provider = "gcp"
	ProviderGoogle Provider = "google"
	ProviderAzure  Provider = "azure"
)

// Providers lists the providers, in the order in which Strict mode reads them.
func Providers() []Provider {
	return []Provider{ProviderAWS, ProviderGCP, ProviderGoogle, ProviderAzure}
}

// File is a provider's file, read.
type File struct {
	Provider Provider
	Entries  []Entry
	// Bad counts prefixes that could not be read, and were skipped; FirstBad is the first.
	Bad      int
	FirstBad string
}

// ParseFile reads a provider's JSON file. A bad prefix is counted and skipped; a file without any
// good one is an error, as is what is not JSON.
func ParseFile(p Provider, data []byte) (File, error) {
	parsers := map[Provider]func([]byte) (File, error){
		ProviderAWS: parseAWS, ProviderGCP: parseGCP, ProviderGoogle: parseGoogle,
		ProviderAzure: parseAzure,
	}
	parse, ok := parsers[p]
	if !ok {
		return File{}, fmt.Errorf("address ranges: no provider %q; there are %v", p, Providers())
	}
	f, err := parse(data)
	f.Provider = p
	if err != nil {
		return File{}, fmt.Errorf("address ranges of %s: %w", p, err)
	}
	if len(f.Entries) == 0 {
		if f.Bad > 0 {
			return File{}, fmt.Errorf("address ranges of %s: none of %d prefixes can be read, the "+
				"first is %q", p, f.Bad, f.FirstBad)
		}
		return File{}, fmt.Errorf("address ranges of %s: there are none in it", p)
	}
	return f, nil
}

// newFile has room for as many prefixes.
func newFile(prefixes int) File { return File{Entries: make([]Entry, 0, prefixes)} }

// sharedRanges gives equal ranges once, by cloud, service and region as a file has them.
type sharedRanges map[[3]string]*Range

func (s sharedRanges) of(c Cloud, service, region string) *Range {
	key := [3]string{string(c), service, region}
	r := s[key]
	if r == nil {
		r = &Range{Cloud: c, Service: NormalizeCloudString(service), Region: NormalizeCloudString(region)}
		s[key] = r
	}
	return r
}

// add takes a prefix as it stands in a file.
func (f *File) add(prefix string, r *Range) {
	p, err := netip.ParsePrefix(strings.TrimSpace(prefix))
	if err != nil {
		if f.Bad == 0 {
			f.FirstBad = prefix
		}
		f.Bad++
		return
	}
	f.Entries = append(f.Entries, Entry{p.Masked(), r})
}

// Ranges maps addresses to ranges, by the longest prefix. It does not change: lookups are safe
// for concurrent use.
type Ranges struct {
	table bart.Table[*ranged]
}

// ranged is a range with its labels made.
type ranged struct {
	Range
	private bool // its addresses stay off the Internet; of the user's ranges
	labels  *flow.Labels
}

// RangeOptions say how ranges are put together.
type RangeOptions struct {
	// User ranges beat any other of the same prefix.
	User []Entry
	// Strict reproduces kubenetmon: IPv4 only, a bad prefix is an error, and its rules for a
	// prefix that comes more than once, which depend on the order of the entries.
	Strict bool
}

// NewRanges puts files together. Of a prefix that comes more than once, the entry that says more
// is taken, in whatever order they come: the user's before a provider's; then a service of its
// own (s3, azurestorage) before a whole cloud (amazon, googlecloud, azurecloud) and that before
// ec2, as case does not matter; then one with a region before one without, and before a global
// one; then the first by cloud, service and region.
func NewRanges(files []File, o RangeOptions) (*Ranges, error) {
	b := rangeBuilder{out: &Ranges{}, known: map[*Range]*ranged{}, replaces: better}
	if o.Strict {
		b.replaces = strictReplaces
	}
	for _, f := range files {
		if o.Strict && f.Bad > 0 {
			return nil, fmt.Errorf("address ranges of %s: bad prefix %q", f.Provider, f.FirstBad)
		}
		for _, e := range f.Entries {
			if o.Strict && !e.Prefix.Addr().Is4() {
				continue
			}
			b.insert(e.Prefix, e.Range, false)
		}
	}
	for _, e := range o.User {
		b.insert(e.Prefix.Masked(), e.Range, true)
	}
	return b.out, nil
}

type rangeBuilder struct {
	out      *Ranges
	known    map[*Range]*ranged // as entries share ranges
	replaces func(old, by *Range) bool
}

func (b *rangeBuilder) insert(p netip.Prefix, r *Range, user bool) {
	b.out.table.Modify(p, func(old *ranged, ok bool) (*ranged, bool) {
		if ok && !user && !b.replaces(&old.Range, r) {
			return old, false
		}
		if user {
			mine := newRanged(r, flow.KindRange)
			mine.private = isPrivate(p.Addr())
			return mine, false
		}
		known, ok := b.known[r]
		if !ok {
			known = newRanged(r, flow.KindCloud)
			b.known[r] = known
		}
		return known, false
	})
}

func newRanged(of *Range, k flow.Kind) *ranged {
	r := *of
	r.Cloud = Cloud(NormalizeCloudString(string(r.Cloud)))
	r.Service, r.Region = NormalizeCloudString(r.Service), NormalizeCloudString(r.Region)
	return &ranged{Range: r, labels: &flow.Labels{Kind: k, Cloud: string(r.Cloud),
		CloudService: r.Service, Region: r.Region, Zone: r.Zone, Name: r.Name}}
}

// Lookup finds the range of an address.
func (r *Ranges) Lookup(a netip.Addr) (Range, bool) {
	if found := r.lookup(a.Unmap()); found != nil {
		return found.Range, true
	}
	return Range{}, false
}

func (r *Ranges) lookup(a netip.Addr) *ranged {
	if r == nil || !a.IsValid() {
		return nil
	}
	found, _ := r.table.Lookup(a)
	return found
}

// Len is the number of prefixes.
func (r *Ranges) Len() int { return r.table.Size() }

// better tells whether an entry says more than one of the same prefix.
func better(old, by *Range) bool {
	if o, n := specific(old.Service), specific(by.Service); o != n {
		return n > o
	}
	if o, n := located(old.Region), located(by.Region); o != n {
		return n > o
	}
	return by.key() < old.key()
}

// specific ranks services.
func specific(service string) int {
	switch strings.ToLower(service) {
	case "":
		return 0
	case amazonEC2:
		return 1
	case AmazonService, AzureCloudService, AzureService, GoogleService, googleCloudService:
		return 2
	case AmazonS3, AzureStorageService:
		return 4
	}
	return 3
}

func located(region string) int {
	switch strings.ToLower(region) {
	case "":
		return 0
	case globalRegion:
		return 1
	}
	return 2
}

func (r *Range) key() string {
	return strings.ToLower(string(r.Cloud) + " " + r.Service + " " + r.Region)
}
