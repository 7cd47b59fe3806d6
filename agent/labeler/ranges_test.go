package labeler

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func parse(t testing.TB, p Provider, text string) File {
	t.Helper()
	f, err := ParseFile(p, []byte(text))
	require.NoError(t, err)
	return f
}

func awsText(entries ...string) string {
	text := `{"prefixes":[`
	for i := 0; i < len(entries); i += 3 {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(`{"ip_prefix":%q,"service":%q,"region":%q}`,
			entries[i], entries[i+1], entries[i+2])
	}
	return text + `]}`
}

func azureText(groups ...string) string {
	text := `{"values":[`
	for i := 0; i < len(groups); i += 4 {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(`{"name":%q,"properties":{"systemService":%q,"region":%q,"addressPrefixes":[%q]}}`,
			groups[i], groups[i+1], groups[i+2], groups[i+3])
	}
	return text + `]}`
}

// TestRangesOfKubenetmon holds both modes against the results of kubenetmon's tests, cases 70 to 79.
func TestRangesOfKubenetmon(t *testing.T) {
	for name, c := range map[string]struct {
		provider Provider
		text     string
		addr     string
		want     Range
		prefixes int
	}{
		"70 storage after another": {ProviderAWS, awsText("10.0.0.0/8", "service2", "us-east-1",
			"10.0.0.0/8", "S3", "eu-west-1", "11.0.0.0/8", "EC2", "us-east-1"),
			"10.1.1.1", Range{Cloud: AWS, Service: "s3", Region: "eu-west-1"}, 2},
		"75 a region of GCP": {ProviderGCP,
			`{"prefixes":[{"ipv4Prefix":"34.1.0.0/16","service":"Google Cloud","scope":"us-east1"}]}`,
			"34.1.2.3", Range{Cloud: GCP, Service: "googlecloud", Region: "us-east1"}, 1},
		"76 Google": {ProviderGoogle, `{"prefixes":[{"ipv4Prefix":"8.8.8.0/24"}]}`,
			"8.8.8.8", Range{Cloud: GCP, Service: "googleservice", Region: "global"}, 1},
		"77 storage after another": {ProviderAzure, azureText("a", "service1", "eastus", "1.1.1.1/32",
			"b", "azurestorage", "westus", "1.1.1.1/32"),
			"1.1.1.1", Range{Cloud: Azure, Service: "azurestorage", Region: "westus"}, 1},
		"78 a service after none": {ProviderAzure, azureText("a", "", "", "2.2.2.2/32",
			"b", "service1", "", "2.2.2.2/32"),
			"2.2.2.2", Range{Cloud: Azure, Service: "service1", Region: "global"}, 1},
		"79 the lower number first": {ProviderAWS, awsText("10.0.0.0/8", "S3", "eu-west-1",
			"10.0.0.0/8", "AMAZON", "eu-west-1", "10.0.0.0/8", "ec2", "eu-west-1"),
			"10.1.1.1", Range{Cloud: AWS, Service: "s3", Region: "eu-west-1"}, 1},
		"79 in another order": {ProviderAWS, awsText("10.0.0.0/8", "ec2", "eu-west-1",
			"10.0.0.0/8", "AMAZON", "eu-west-1", "10.0.0.0/8", "S3", "eu-west-1"),
			"10.1.1.1", Range{Cloud: AWS, Service: "s3", Region: "eu-west-1"}, 1},
		"79 amazon before ec2": {ProviderAWS, awsText("10.0.0.0/8", "AMAZON", "eu-west-1",
			"10.0.0.0/8", "ec2", "eu-west-1"),
			"10.1.1.1", Range{Cloud: AWS, Service: "amazon", Region: "eu-west-1"}, 1},
	} {
		for _, strict := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, strict %v", name, strict), func(t *testing.T) {
				r, err := NewRanges([]File{parse(t, c.provider, c.text)}, RangeOptions{Strict: strict})
				require.NoError(t, err)
				got, ok := r.Lookup(netip.MustParseAddr(c.addr))
				require.True(t, ok)
				require.Equal(t, c.want, got)
				require.Equal(t, c.prefixes, r.Len())
			})
		}
	}
}

// TestStrictOrder has what kubenetmon makes of real spelling, and of prefixes that come again.
func TestStrictOrder(t *testing.T) {
	for name, c := range map[string]struct {
		files []File
		want  Range
	}{
		"Azure's storage in its real spelling stays global": {[]File{parse(t, ProviderAzure,
			azureText("Storage", "AzureStorage", "", "1.1.1.0/24", "Storage.W", "AzureStorage", "westus", "1.1.1.0/24"))},
			Range{Cloud: Azure, Service: "azurestorage", Region: "global"}},
		"azurecloud gets its region": {[]File{parse(t, ProviderAzure,
			azureText("AzureCloud", "", "", "1.1.1.0/24", "AzureCloud.W", "", "westus", "1.1.1.0/24"))},
			Range{Cloud: Azure, Service: "azurecloud", Region: "westus"}},
		"Google overwrites a region of GCP": {[]File{
			parse(t, ProviderGCP, `{"prefixes":[{"ipv4Prefix":"1.1.1.0/24","service":"Google Cloud","scope":"us-east1"}]}`),
			parse(t, ProviderGoogle, `{"prefixes":[{"ipv4Prefix":"1.1.1.0/24"}]}`)},
			Range{Cloud: GCP, Service: "googleservice", Region: "global"}},
		"of equal services of AWS the last one wins": {[]File{parse(t, ProviderAWS,
			awsText("1.1.1.0/24", "EBS", "us-east-1", "1.1.1.0/24", "CLOUD9", "us-east-2"))},
			Range{Cloud: AWS, Service: "cloud9", Region: "us-east-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewRanges(c.files, RangeOptions{Strict: true})
			require.NoError(t, err)
			got, _ := r.Lookup(netip.MustParseAddr("1.1.1.1"))
			require.Equal(t, c.want, got)
		})
	}
}

// TestBadPrefix: cases 71, 72, 73 and 74 in Strict mode; else the good ones are taken.
func TestBadPrefix(t *testing.T) {
	texts := map[Provider]string{
		ProviderAWS:    awsText("1.2.3/8", "S3", "x", "1.1.1.0/24", "S3", "x"),
		ProviderGCP:    `{"prefixes":[{"ipv4Prefix":"1.2.3.4/33"},{"ipv6Prefix":"2600::/20"}]}`,
		ProviderGoogle: `{"prefixes":[{},{"ipv4Prefix":"1.1.1.0/24"}]}`,
		ProviderAzure:  azureText("a", "b", "c", "nonsense", "a", "b", "c", "1.1.1.0/24"),
	}
	require.Len(t, texts, len(Providers()))
	for p, text := range texts {
		f := parse(t, p, text)
		require.Equal(t, 1, f.Bad)
		_, err := NewRanges([]File{f}, RangeOptions{Strict: true})
		require.ErrorContains(t, err, fmt.Sprintf("address ranges of %s: bad prefix %q", p, f.FirstBad))
		r, err := NewRanges([]File{f}, RangeOptions{})
		require.NoError(t, err)
		require.Equal(t, 1, r.Len())
	}
}

func TestParseFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                               "address ranges of aws: unexpected end of JSON input",
		`{}`:                             "address ranges of aws: there are none in it",
		awsText("x", "S3", "y"):          `address ranges of aws: none of 1 prefixes can be read, the first is "x"`,
		`{"prefixes":[{"ip_prefix":1}]}`: "address ranges of aws: json: cannot unmarshal number",
	} {
		_, err := ParseFile(ProviderAWS, []byte(text))
		require.ErrorContains(t, err, want)
	}
	_, err := ParseFile("ibm", nil)
	require.ErrorContains(t, err, `no provider "ibm"; there are [aws gcp google azure]`)
}

// TestTieRule: the same entry is taken whatever the order, also in real spelling.
func TestTieRule(t *testing.T) {
	prefix := netip.MustParsePrefix("1.1.1.0/24")
	for name, all := range map[string][]Range{ // the best first
		"storage": {{Cloud: AWS, Service: "S3", Region: "eu-west-1"}, {Cloud: AWS, Service: "cloud9", Region: "eu-west-1"},
			{Cloud: AWS, Service: "amazon", Region: "eu-west-1"}, {Cloud: AWS, Service: "ec2", Region: "eu-west-1"}},
		"region": {{Cloud: Azure, Service: "AzureStorage", Region: "westus"}, {Cloud: Azure, Service: "AzureStorage", Region: "global"},
			{Cloud: Azure, Service: "AzureSQL", Region: "westus"}, {Cloud: Azure, Service: "azurecloud", Region: "westus"}},
		"google": {{Cloud: GCP, Service: "googlecloud", Region: "us-east1"}, {Cloud: GCP, Service: "googleservice", Region: "global"}},
		"name":   {{Cloud: AWS, Service: "a", Region: "x"}, {Cloud: AWS, Service: "b", Region: "x"}, {Cloud: AWS, Service: "b", Region: "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			for permutation := range permutations(len(all)) {
				f := File{Provider: ProviderAWS}
				for _, i := range permutation {
					f.Entries = append(f.Entries, Entry{prefix, &all[i]})
				}
				r, err := NewRanges([]File{f}, RangeOptions{})
				require.NoError(t, err)
				got, _ := r.Lookup(prefix.Addr())
				require.Equal(t, NormalizeCloudString(all[0].Service), got.Service)
				require.Equal(t, all[0].Region, got.Region)
			}
		})
	}
}

// permutations gives all orders of n things.
func permutations(n int) func(func([]int) bool) {
	return func(yield func([]int) bool) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		var rec func(int) bool
		rec = func(k int) bool {
			if k == n {
				return yield(order)
			}
			for i := k; i < n; i++ {
				order[k], order[i] = order[i], order[k]
				if !rec(k + 1) {
					return false
				}
				order[k], order[i] = order[i], order[k]
			}
			return true
		}
		rec(0)
	}
}

func TestUserRanges(t *testing.T) {
	f := parse(t, ProviderAWS, awsText("52.0.0.0/8", "S3", "us-east-1", "52.1.0.0/16", "S3", "us-east-1"))
	f.Entries = append(f.Entries, Entry{netip.MustParsePrefix("2600::/16"), &Range{Cloud: AWS, Region: "us-east-1"}})
	user := []Entry{
		{netip.MustParsePrefix("172.20.0.0/16"), &Range{Name: "broad"}},
		{netip.MustParsePrefix("172.20.5.7/24"), &Range{Name: "postgres", Zone: "zone-a"}},
		{netip.MustParsePrefix("52.0.0.0/8"), &Range{Name: "mine", Class: PrivateOther}},
	}
	r, err := NewRanges([]File{f}, RangeOptions{User: user})
	require.NoError(t, err)
	for addr, want := range map[string]string{
		"172.20.5.10": "postgres", "172.20.9.1": "broad", // case 122
		"52.2.0.1": "mine",
		"52.1.0.1": "", // the longest prefix is a provider's
		"2600::1":  "", "::ffff:172.20.9.1": "broad",
	} {
		got, ok := r.Lookup(netip.MustParseAddr(addr))
		require.True(t, ok, addr)
		require.Equal(t, want, got.Name, addr)
	}
	_, ok := r.Lookup(netip.MustParseAddr("9.9.9.9"))
	require.False(t, ok)
}

func TestNames(t *testing.T) {
	require.Equal(t, "germanywestcentral", NormalizeCloudString("Germany West Central")) // case 80
	require.Equal(t, "us-east1", NormalizeCloudString("us-east1"))
	_, err := NewCloud("abc") // case 81
	require.ErrorContains(t, err, `cloud "abc": want aws, gcp or azure`)
	c, err := NewCloud("aws")
	require.NoError(t, err)
	require.Equal(t, AWS, c)
	_, err = NewEnvironment("test")
	require.ErrorContains(t, err, `environment "test": want development, staging or production`)
	e, err := NewEnvironment("staging")
	require.NoError(t, err)
	require.Equal(t, "staging", e.String())
	_, err = ParseConnectionClass("near")
	require.ErrorContains(t, err, `class "near": there are [SAME_HOST`)
	class, err := ParseConnectionClass("private_other")
	require.NoError(t, err)
	require.Equal(t, "PRIVATE_OTHER", class.String())
}

func TestConnectionFlagsString(t *testing.T) { // case 50
	require.Equal(t, `{'':false,'TEST_FLAG':true}`,
		ConnectionFlags{"TEST_FLAG": true, "": false}.String())
	require.Equal(t, `{}`, ConnectionFlags{}.String())
	require.Equal(t, `{'it\'s':true}`, ConnectionFlags{"it's": true}.String())
}

// realFiles reads the files as the providers published them. They are too large for the repository.
func realFiles(t testing.TB) map[Provider][]byte {
	t.Helper()
	dir := os.Getenv("WEIR_CLOUD_RANGES")
	if dir == "" {
		t.Skip("needs the providers' own files: WEIR_CLOUD_RANGES names a folder with aws-ip-ranges.json, " +
			"gcp-cloud.json, google-goog.json, azure-service-tags.json")
	}
	all := map[Provider][]byte{}
	for p, name := range map[Provider]string{ProviderAWS: "aws-ip-ranges.json", ProviderGCP: "gcp-cloud.json",
		ProviderGoogle: "google-goog.json", ProviderAzure: "azure-service-tags.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		all[p] = data
	}
	return all
}

func loadReal(t testing.TB, data map[Provider][]byte, strict bool) *Ranges {
	t.Helper()
	var files []File
	for _, p := range Providers() {
		f, err := ParseFile(p, data[p])
		require.NoError(t, err)
		require.Zero(t, f.Bad, f.FirstBad)
		files = append(files, f)
	}
	r, err := NewRanges(files, RangeOptions{Strict: strict})
	require.NoError(t, err)
	return r
}

// TestRealFiles checks addresses whose ranges are known from the files' own text.
func TestRealFiles(t *testing.T) {
	r := loadReal(t, realFiles(t), false)
	require.Greater(t, r.Len(), 40000)
	for addr, want := range map[string]Range{
		"3.5.140.1":        {Cloud: AWS, Service: "s3", Region: "ap-northeast-2"},
		"34.1.208.7":       {Cloud: GCP, Service: "googlecloud", Region: "africa-south1"},
		"8.8.8.8":          {Cloud: GCP, Service: "googleservice", Region: "global"},
		"2600:1900:8000::": {Cloud: GCP, Service: "googlecloud", Region: "africa-south1"},
	} {
		got, ok := r.Lookup(netip.MustParseAddr(addr))
		require.True(t, ok, addr)
		require.Equal(t, want, got, addr)
	}
}

// TestAzureStorageRegion: addresses of regional storage are not global, as Strict mode has them.
func TestAzureStorageRegion(t *testing.T) {
	data := realFiles(t)
	azure := parse(t, ProviderAzure, string(data[ProviderAzure]))
	count := func(r *Ranges) (global int) {
		seen := map[netip.Prefix]bool{}
		for _, e := range azure.Entries {
			if e.Range.Service != "AzureStorage" || e.Range.Region == globalRegion || seen[e.Prefix] {
				continue
			}
			seen[e.Prefix] = true
			if got, _ := r.Lookup(e.Prefix.Addr()); got.Region == globalRegion {
				global++
			}
		}
		require.NotEmpty(t, seen)
		return global
	}
	require.Zero(t, count(loadReal(t, data, false)))
	require.NotZero(t, count(loadReal(t, data, true)))
}

func FuzzParseFile(f *testing.F) {
	f.Add(0, awsText("10.0.0.0/8", "S3", "x"))
	f.Add(1, `{"prefixes":[{"ipv4Prefix":"1.2.3.4/33"},{"ipv6Prefix":"2600::/20"}]}`)
	f.Add(2, `{"prefixes":[{"ipv6Prefix":"::/0"}]}`)
	f.Add(3, azureText("a", "b", "c", "10.0.0.0/8"))
	f.Fuzz(func(t *testing.T, which int, text string) {
		p := Providers()[uint(which)%4]
		file, err := ParseFile(p, []byte(text))
		if err != nil {
			return
		}
		r, err := NewRanges([]File{file}, RangeOptions{})
		require.NoError(t, err)
		require.Positive(t, r.Len())
		for _, e := range file.Entries {
			if _, ok := r.Lookup(e.Prefix.Addr()); !ok && !e.Prefix.Addr().Is4In6() {
				t.Fatalf("%v is lost", e.Prefix)
			}
		}
		slices.Reverse(file.Entries) // the order does not matter
		again, err := NewRanges([]File{file}, RangeOptions{})
		require.NoError(t, err)
		for _, e := range file.Entries {
			a, _ := r.Lookup(e.Prefix.Addr())
			b, _ := again.Lookup(e.Prefix.Addr())
			require.Equal(t, a, b)
		}
	})
}
