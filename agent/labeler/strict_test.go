package labeler

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/agent/flow"
)

// The results of kubenetmon's own tests, case by case. Original is 10 packets and 11 bytes, reply
// 12 and 13; ports are 1 and 2.

const (
	ownNode   = "node-a"
	otherNode = "node-b"
)

// strictWorld has pods on two nodes.
func strictWorld(t *testing.T, o Options) *Labeler {
	t.Helper()
	c := NewCluster(ClusterOptions{Name: "c"})
	c.SetNode(Node{UID: "n1", Name: ownNode, Internal: addrs("10.9.0.1"), Zone: "zone-a"}, 1)
	c.SetNode(Node{UID: "n2", Name: otherNode, Internal: addrs("10.9.0.2"), Zone: "zone-b"}, 1)
	c.SetPod(Pod{UID: "p1", Namespace: "ns", Name: "own", Node: ownNode, Addrs: addrs("10.0.0.1"),
		App: "app-own", Instance: "instance-own"}, 1)
	c.SetPod(Pod{UID: "p2", Namespace: "ns", Name: "own2", Node: ownNode, Addrs: addrs("10.0.0.2"),
		App: "app-own2"}, 1)
	c.SetPod(Pod{UID: "p3", Namespace: "ns", Name: "other", Node: otherNode,
		Addrs: addrs("10.3.0.0"), App: "app-other"}, 1)
	o.Clusters, o.Strict = []*Cluster{c}, true
	if o.Remote == nil {
		o.Remote = NewRemoteLabeler(RemoteOptions{Region: "us-west-2", Cloud: AWS, Strict: true})
	}
	return NewLabeler(o)
}

func addrs(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// strictFlow is a flow from one address to another; the reply's may be others.
func strictFlow(src, dst, replySrc, replyDst string) *Flow {
	at := func(a string, port uint16) netip.AddrPort {
		if a == "" {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(netip.MustParseAddr(a), port)
	}
	return &Flow{Protocol: unix.IPPROTO_TCP,
		Original: Leg{at(src, 1), at(dst, 2), 10, 11},
		Reply:    Leg{at(replySrc, 2), at(replyDst, 1), 12, 13}}
}

func plainFlow(src, dst string) *Flow { return strictFlow(src, dst, dst, src) }

func udp(f *Flow) *Flow { f.Protocol = unix.IPPROTO_UDP; return f }

func TestStrictNodeFlow(t *testing.T) {
	l := strictWorld(t, Options{})
	for name, c := range map[string]struct {
		flow *Flow
		want bool
	}{
		"01 original from a node":   {plainFlow("10.9.0.1", "10.0.0.1"), true},
		"02 reply from a node":      {plainFlow("10.0.0.1", "10.9.0.2"), true},
		"04 service with node back": {strictFlow("10.0.0.1", "10.96.0.1", "10.9.0.1", "10.0.0.1"), true},
		"05 neither":                {strictFlow("10.0.0.1", "1.2.3.4", "1.2.3.5", "10.9.0.1"), false},
	} {
		t.Run(name, func(t *testing.T) {
			is, err := l.isNodeFlow(c.flow)
			require.NoError(t, err)
			require.Equal(t, c.want, is)
		})
	}
	t.Run("03 an error of the nodes is passed on", func(t *testing.T) {
		l.clusters[0].SetNode(Node{UID: "n3", Name: "node-c", Internal: addrs("10.9.0.1")}, 1)
		is, err := l.isNodeFlow(plainFlow("10.9.0.1", "10.0.0.1"))
		require.ErrorIs(t, err, ErrNodesShareInternalIP)
		require.False(t, is)
	})
}

func TestStrictErrors(t *testing.T) {
	for name, c := range map[string]struct {
		flow *Flow
		want error
	}{
		"10 from a node":                {plainFlow("10.9.0.1", "10.0.0.1"), ErrNodeFlow},
		"11 UDP":                        {udp(plainFlow("10.0.0.1", "1.2.3.4")), ErrIgnoredUDPFlow},
		"11 UDP before addresses":       {udp(plainFlow("", "")), ErrIgnoredUDPFlow},
		"12 IPv6":                       {plainFlow("fd00::1", "10.0.0.1"), ErrIPv6Flow},
		"17 nothing":                    {&Flow{Protocol: unix.IPPROTO_TCP}, ErrInvalidIP},
		"the first address that is bad": {strictFlow("fd00::1", "", "", ""), ErrIPv6Flow},
		"mapped IPv4 is IPv6":           {plainFlow("::ffff:10.0.0.1", "10.0.0.2"), ErrIPv6Flow},
		"one of four is missing":        {strictFlow("10.0.0.1", "1.2.3.4", "1.2.3.4", ""), ErrInvalidIP},
		"45 both unknown":               {plainFlow("1.2.3.4", "5.6.7.8"), ErrDirection},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := strictWorld(t, Options{IgnoreUDP: true}).LabelFlow(ownNode, c.flow)
			require.ErrorIs(t, err, c.want)
			require.Zero(t, got)
		})
	}
}

// TestStrictLooksNothingUp: what cases 11 and 12 leave out is left out before any cluster is asked.
func TestStrictLooksNothingUp(t *testing.T) {
	l := NewLabeler(Options{Clusters: []*Cluster{nil}, Strict: true, IgnoreUDP: true}) // it cannot be asked
	_, err := l.LabelFlow(ownNode, udp(plainFlow("10.0.0.1", "10.0.0.2")))
	require.ErrorIs(t, err, ErrIgnoredUDPFlow)
	_, err = l.LabelFlow(ownNode, plainFlow("fd00::1", "10.0.0.2"))
	require.ErrorIs(t, err, ErrIPv6Flow)
	require.Panics(t, func() { _, _ = l.LabelFlow(ownNode, plainFlow("10.0.0.1", "10.0.0.2")) })
}

func TestStrictLabelFlow(t *testing.T) {
	for name, c := range map[string]struct {
		flow          *Flow
		local, remote string // address:port
		localPod      string
		remotePod     string
		in            [2]uint64
		class         ConnectionClass
	}{
		"13 source NAT to the node": {udp(strictFlow("10.0.0.1", "1.2.3.4", "1.2.3.4", "10.9.0.1")),
			"10.0.0.1:1", "1.2.3.4:2", "own", "", [2]uint64{12, 13}, PublicInternet},
		"14 no NAT": {udp(plainFlow("10.0.0.1", "1.2.3.4")),
			"10.0.0.1:1", "1.2.3.4:2", "own", "", [2]uint64{12, 13}, PublicInternet},
		"15 from another node": {plainFlow("10.3.0.0", "10.0.0.2"),
			"10.0.0.2:2", "10.3.0.0:1", "own2", "other", [2]uint64{10, 11}, IntraVPC},
		"16 within the node": {plainFlow("10.0.0.1", "10.0.0.2"),
			"10.0.0.1:1", "10.0.0.2:2", "own", "own2", [2]uint64{12, 13}, IntraVPC},
		"18 service": {strictFlow("10.0.0.1", "10.96.0.2", "10.3.0.0", "10.0.0.1"),
			"10.0.0.1:1", "10.3.0.0:2", "own", "other", [2]uint64{12, 13}, IntraVPC},
		"19 service, resolved in the socket": {plainFlow("10.0.0.1", "10.3.0.0"),
			"10.0.0.1:1", "10.3.0.0:2", "own", "other", [2]uint64{12, 13}, IntraVPC},
		"43 unknown to another node": {plainFlow("8.8.8.8", "10.3.0.0"),
			"8.8.8.8:1", "10.3.0.0:2", "", "other", [2]uint64{12, 13}, IntraVPC},
		"44 another node to unknown": {plainFlow("10.3.0.0", "8.8.8.8"),
			"8.8.8.8:2", "10.3.0.0:1", "", "other", [2]uint64{10, 11}, IntraVPC},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := strictWorld(t, Options{}).LabelFlow(ownNode, c.flow)
			require.NoError(t, err)
			at := func(e End) string { return netip.AddrPortFrom(e.IP, e.Port).String() }
			require.Equal(t, c.local, at(got.Local))
			require.Equal(t, c.remote, at(got.Remote))
			require.Equal(t, c.localPod, got.Local.Pod)
			require.Equal(t, c.remotePod, got.Remote.Pod)
			require.Equal(t, c.in, [2]uint64{got.PacketsIn, got.BytesIn})
			require.Equal(t, uint64(22), got.PacketsIn+got.PacketsOut)
			require.Equal(t, c.class, got.ConnectionClass)
			require.Equal(t, "UNKNOWN", got.Remote.Cluster)
			require.Equal(t, "{}", got.ConnectionFlags.String())
		})
	}
	for name, f := range map[string]*Flow{
		"all labels of 13": udp(strictFlow("10.0.0.1", "1.2.3.4", "1.2.3.4", "10.9.0.1")),
		"all labels of 14": udp(plainFlow("10.0.0.1", "1.2.3.4")),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := strictWorld(t, Options{}).LabelFlow(ownNode, f)
			require.NoError(t, err)
			require.Equal(t, flow.Labels{Namespace: "ns", Pod: "own", Instance: "instance-own", Node: ownNode,
				Zone: "zone-a", App: "app-own"}, *got.Local.Labels)
			require.Equal(t, flow.Labels{Cluster: "UNKNOWN"}, *got.Remote.Labels)
			require.Equal(t, "udp", got.Proto)
		})
	}
	t.Run("both nodes of 16", func(t *testing.T) {
		got, err := strictWorld(t, Options{}).LabelFlow(ownNode, plainFlow("10.0.0.1", "10.0.0.2"))
		require.NoError(t, err)
		require.Equal(t, []string{ownNode, ownNode}, []string{got.Local.Node, got.Remote.Node})
	})
	t.Run("all labels of 15", func(t *testing.T) {
		got, err := strictWorld(t, Options{}).LabelFlow(ownNode, plainFlow("10.3.0.0", "10.0.0.1"))
		require.NoError(t, err)
		l, r := got.Local.Labels, got.Remote.Labels
		require.Equal(t, []string{"ns", "own", "instance-own", ownNode, "zone-a", "app-own"},
			[]string{l.Namespace, l.Pod, l.Instance, l.Node, l.Zone, l.App})
		require.Equal(t, []string{"ns", "other", otherNode, "zone-b", "app-other", "aws", "us-west-2"},
			[]string{r.Namespace, r.Pod, r.Node, r.Zone, r.App, r.Cloud, r.Region})
		require.Equal(t, "tcp", got.Proto)
	})
}

func TestStrictEnds(t *testing.T) {
	l := strictWorld(t, Options{})
	for name, c := range map[string]struct {
		flow           *Flow
		src, dst       string
		srcPod, dstPod string
	}{
		"30 no pods: senders of both directions": {strictFlow("1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"),
			"1.1.1.1:1", "3.3.3.3:2", "", ""},
		"32 source, no NAT":             {plainFlow("10.0.0.1", "1.2.3.4"), "10.0.0.1:1", "1.2.3.4:2", "own", ""},
		"33 source, source NAT":         {strictFlow("10.0.0.1", "1.2.3.4", "1.2.3.4", "10.9.0.1"), "10.0.0.1:1", "1.2.3.4:2", "own", ""},
		"34 destination, no NAT":        {plainFlow("1.2.3.4", "10.0.0.1"), "1.2.3.4:1", "10.0.0.1:2", "", "own"},
		"35 destination behind service": {strictFlow("1.2.3.4", "10.96.0.1", "10.0.0.1", "1.2.3.4"), "1.2.3.4:1", "10.0.0.1:2", "", "own"},
	} {
		t.Run(name, func(t *testing.T) {
			src, dst, err := l.strictEnds(c.flow)
			require.NoError(t, err)
			require.Equal(t, []string{c.src, c.dst}, []string{src.at.String(), dst.at.String()})
			require.Equal(t, []string{c.srcPod, c.dstPod}, []string{podName(src), podName(dst)})
		})
	}
	t.Run("31 an error of the pods is passed on", func(t *testing.T) {
		l.clusters[0].SetPod(Pod{UID: "p9", Namespace: "ns", Name: "twin", Addrs: addrs("10.0.0.1"),
			From: 1, Until: 2}, 3) // it has ended, which does not count
		src, dst, err := l.strictEnds(plainFlow("10.0.0.1", "1.2.3.4"))
		require.ErrorContains(t, err, "more than one pod maps to 10.0.0.1: ns/own and ns/twin")
		require.Zero(t, src)
		require.Zero(t, dst)
	})
}

func podName(e strictEnd) string {
	if e.pod == nil {
		return ""
	}
	return e.pod.Name
}

func TestStrictDirection(t *testing.T) {
	here, there, pending := &Pod{Node: ownNode}, &Pod{Node: otherNode}, &Pod{}
	for name, c := range map[string]struct {
		src, dst *Pod
		want     way
	}{
		"40 both here":                  {here, here, wayBetween},
		"41 source here":                {here, there, wayFrom},
		"42 destination here":           {there, here, wayTo},
		"43 unknown to another node":    {nil, there, wayFrom},
		"44 another node to unknown":    {there, nil, wayTo},
		"45 both unknown":               {nil, nil, wayUnknown},
		"both on another node":          {there, there, wayUnknown},
		"unknown to a pod without node": {nil, pending, wayUnknown},
	} {
		require.Equal(t, c.want, strictDirection(ownNode, c.src, c.dst), name)
	}
}

// strictRanges are made from files of all four providers.
func strictRanges(t *testing.T) *Ranges {
	t.Helper()
	awsFile := `{"prefixes":[{"ip_prefix":"52.95.0.0/16","region":"af-south-1","service":"EC2"},
		{"ip_prefix":"52.96.0.0/16","region":"us-west-2","service":"S3"},
		{"ip_prefix":"52.97.0.0/16","region":"GLOBAL","service":"AMAZON"}]}`
	gcpFile := `{"prefixes":[{"ipv4Prefix":"1.1.1.0/24","service":"Google Cloud","scope":"us-west2"},
		{"ipv4Prefix":"2.2.2.0/24","service":"Google Cloud","scope":"ap-southeast1"},
		{"ipv4Prefix":"2.2.3.0/24","service":"Google Cloud","scope":"europe-north1"},
		{"ipv4Prefix":"3.3.3.0/24","service":"Google Cloud"}]}`
	googleFile := `{"prefixes":[{"ipv4Prefix":"8.8.4.0/24"}]}`
	azureFile := `{"values":[{"name":"AzureCloud","properties":{"addressPrefixes":["4.4.4.0/24"]}}]}`
	var files []File
	for p, text := range map[Provider]string{ProviderAWS: awsFile, ProviderGCP: gcpFile,
		ProviderGoogle: googleFile, ProviderAzure: azureFile} {
		f, err := ParseFile(p, []byte(text))
		require.NoError(t, err)
		files = append(files, f)
	}
	ranges, err := NewRanges(files, RangeOptions{Strict: true})
	require.NoError(t, err)
	return ranges
}

// TestStrictCloud has flows of a pod to providers' addresses, with ranges of its own instead of those of the day.
func TestStrictCloud(t *testing.T) {
	for name, c := range map[string]struct {
		cloud        Cloud
		region, addr string
		service      string
		there        string // the remote region
		class        ConnectionClass
	}{
		"20 another region":         {AWS, "us-west-2", "52.95.1.1", "ec2", "af-south-1", InterRegion},
		"21 own region":             {AWS, "us-west-2", "52.96.1.1", "s3", "us-west-2", IntraRegion},
		"22 global Google":          {GCP, "us-east1", "8.8.4.4", "googleservice", "global", IntraRegion},
		"23 Google Cloud elsewhere": {GCP, "us-east1", "2.2.3.4", "googlecloud", "europe-north1", InterRegion},
	} {
		t.Run(name, func(t *testing.T) {
			remote := NewRemoteLabeler(RemoteOptions{Region: c.region, Cloud: c.cloud, Strict: true})
			remote.SetRanges(strictRanges(t))
			got, err := strictWorld(t, Options{Remote: remote}).LabelFlow(ownNode, plainFlow("10.0.0.1", c.addr))
			require.NoError(t, err)
			require.Equal(t, flow.Labels{Cluster: "UNKNOWN", Cloud: string(c.cloud), CloudService: c.service,
				Region: c.there}, *got.Remote.Labels)
			require.Equal(t, c.class, got.ConnectionClass)
		})
	}
	t.Run("the flow of 66 is lost", func(t *testing.T) {
		remote := NewRemoteLabeler(RemoteOptions{Region: "us-west2", Cloud: GCP, Strict: true})
		remote.SetRanges(strictRanges(t))
		got, err := strictWorld(t, Options{Remote: remote}).LabelFlow(ownNode, plainFlow("10.0.0.1", "3.3.3.3"))
		require.EqualError(t, err, "undetermined region in the same gcp cloud")
		require.Zero(t, got)
	})
}

func TestStrictRemote(t *testing.T) {
	ranges := strictRanges(t)
	for name, c := range map[string]struct {
		cloud        Cloud
		region, addr string
		want         Range
		class        ConnectionClass
		err          string
	}{
		"20 another region":          {AWS, "us-west-2", "52.95.1.1", Range{Cloud: AWS, Service: "ec2", Region: "af-south-1"}, InterRegion, ""},
		"21 own region":              {AWS, "us-west-2", "52.96.1.1", Range{Cloud: AWS, Service: "s3", Region: "us-west-2"}, IntraRegion, ""},
		"22 global Google":           {GCP, "us-east1", "8.8.4.4", Range{Cloud: GCP, Service: "googleservice", Region: "global"}, IntraRegion, ""},
		"23 Google Cloud elsewhere":  {GCP, "us-east1", "2.2.3.4", Range{Cloud: GCP, Service: "googlecloud", Region: "europe-north1"}, InterRegion, ""},
		"60 private":                 {GCP, "us-west2", "10.0.0.1", Range{Cloud: GCP, Region: "us-west2"}, IntraVPC, ""},
		"61 own region":              {GCP, "us-west2", "1.1.1.1", Range{Cloud: GCP, Service: "googlecloud", Region: "us-west2"}, IntraRegion, ""},
		"62 another region":          {GCP, "us-west2", "2.2.2.2", Range{Cloud: GCP, Service: "googlecloud", Region: "ap-southeast1"}, InterRegion, ""},
		"63 no match":                {GCP, "us-west2", "8.8.8.8", Range{}, PublicInternet, ""},
		"64 global":                  {GCP, "us-west2", "8.8.4.8", Range{Cloud: GCP, Service: "googleservice", Region: "global"}, IntraRegion, ""},
		"65 another cloud":           {GCP, "us-west2", "52.96.1.1", Range{Cloud: AWS, Service: "s3", Region: "us-west-2"}, PublicInternet, ""},
		"66 no region, own cloud":    {GCP, "us-west2", "3.3.3.3", Range{Cloud: GCP, Service: "googlecloud"}, "", "undetermined region in the same gcp cloud"},
		"67 aws global":              {AWS, "us-west-2", "52.97.1.1", Range{Cloud: AWS, Service: "amazon", Region: "global"}, IntraRegion, ""},
		"68 gcp global":              {GCP, "us-west-2", "8.8.4.9", Range{Cloud: GCP, Service: "googleservice", Region: "global"}, IntraRegion, ""},
		"69 azure global":            {Azure, "westus", "4.4.4.4", Range{Cloud: Azure, Service: "azurecloud", Region: "global"}, IntraRegion, ""},
		"link-local":                 {AWS, "us-west-2", "169.254.169.254", Range{Cloud: AWS, Region: "us-west-2"}, IntraVPC, ""},
		"local multicast":            {AWS, "us-west-2", "239.1.2.3", Range{Cloud: AWS, Region: "us-west-2"}, IntraVPC, ""},
		"multicast that is not":      {AWS, "us-west-2", "224.1.2.3", Range{}, PublicInternet, ""},
		"shared space is not either": {AWS, "us-west-2", "100.64.0.1", Range{}, PublicInternet, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewRemoteLabeler(RemoteOptions{Region: c.region, Cloud: c.cloud, Strict: true})
			l.SetRanges(ranges)
			got, class, err := l.strictRemote(netip.MustParseAddr(c.addr))
			if c.err != "" {
				require.EqualError(t, err, c.err)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.class, class)
		})
	}
}
