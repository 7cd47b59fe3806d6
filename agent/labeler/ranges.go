package labeler

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	trie     *trie
	prefixes int
}

// ranged is a range with its labels made.
type ranged struct {
	Range
	private bool // its addresses stay off the Internet; of the user's ranges
	labels  *flow.Labels
	kind    flow.Kind
	place
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
	b := rangeBuilder{known: map[*Range]*ranged{}, replaces: better}
	n := len(o.User)
	for _, f := range files {
		n += len(f.Entries)
	}
	b.all = make([]candidate, 0, n)
	if o.Strict {
		b.replaces = strictReplaces
	}
	for _, f := range files {
		if o.Strict && f.Bad > 0 {
			return nil, fmt.Errorf("address ranges of %s: bad prefix %q", f.Provider, f.FirstBad)
		}
		for _, e := range f.Entries {
			if !o.Strict || e.Prefix.Addr().Is4() {
				b.add(e.Prefix, e.Range, b.cloud(e.Range))
			}
		}
	}
	for _, e := range o.User {
		mine := newRanged(e.Range, flow.KindRange)
		mine.private = isPrivate(e.Prefix.Addr())
		b.add(e.Prefix.Masked(), e.Range, mine)
	}
	all := b.best()
	return &Ranges{newTrie(all), len(all)}, nil
}

type rangeBuilder struct {
	all      []candidate
	known    map[*Range]*ranged // as entries share ranges
	replaces func(old, by *Range) bool
}

// candidate is a prefix that may come more than once.
type candidate struct {
	prefix
	raw   *Range // as it is spelled in its file
	order int    // in which it came
}

func (b *rangeBuilder) add(p netip.Prefix, raw *Range, r *ranged) {
	b.all = append(b.all, candidate{prefix{p, r}, raw, len(b.all)})
}

func (b *rangeBuilder) cloud(r *Range) *ranged {
	known, ok := b.known[r]
	if !ok {
		known = newRanged(r, flow.KindCloud)
		b.known[r] = known
	}
	return known
}

// best gives each prefix once, in order.
func (b *rangeBuilder) best() []prefix {
	slices.SortFunc(b.all, func(x, y candidate) int {
		return cmp.Or(x.Compare(y.Prefix), cmp.Compare(x.order, y.order))
	})
	out := make([]prefix, 0, len(b.all))
	for _, c := range b.all {
		last := len(out) - 1
		if last < 0 || out[last].Prefix != c.Prefix {
			out = append(out, c.prefix)
		} else if c.value.kind == flow.KindRange || b.replaces(&out[last].value.Range, c.raw) {
			out[last] = c.prefix
		}
	}
	return out
}

func newRanged(of *Range, k flow.Kind) *ranged {
	r := *of
	r.Cloud = Cloud(NormalizeCloudString(string(r.Cloud)))
	r.Service, r.Region = NormalizeCloudString(r.Service), NormalizeCloudString(r.Region)
	return &ranged{Range: r, kind: k, place: place{zone: r.Zone, region: r.Region, cloud: r.Cloud}, labels: &flow.Labels{Kind: k, Cloud: string(r.Cloud),
		CloudService: r.Service, Region: r.Region, Zone: r.Zone, Name: r.Name}}
}

// Lookup finds the range of an address.
func (r *Ranges) Lookup(a netip.Addr) (Range, bool) {
	if !a.IsValid() {
		return Range{}, false
	}
	if found := r.lookup(keyOf(a)); found != nil {
		return found.Range, true
	}
	return Range{}, false
}

func (r *Ranges) lookup(k key) *ranged {
	if r == nil {
		return nil
	}
	return r.trie.lookup(k)
}

// Len is the number of prefixes.
func (r *Ranges) Len() int { return r.prefixes }

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
