// Package kube tells a cluster of what Kubernetes' API server says: pods, nodes, services,
// endpoint slices, namespaces, and who controls ReplicaSets and Jobs.
//
// It is client-go's reflectors (list, watch, bookmarks, expired versions, back-off) with objects
// of its own, which have only the fields that are read: decoding k8s.io/api's would make the
// binary and its memory several times larger.
package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/weirnet/weir/agent/labeler"
)

// Options say which API server is asked, and for what.
type Options struct {
	// Kubeconfig is the path of a kubeconfig file, and Context the name in it; without a path,
	// the pod's own service account is used.
	Kubeconfig, Context string
	Keys                Keys
	Now                 func() time.Time // nil: time.Now
	Log                 *slog.Logger     // nil: none
}

// Keys are labels of pods that become labels of flows: of each list the first one that a pod has.
// App is looked for in the pod's namespace too.
type Keys struct {
	App, Instance []string
}

// DefaultKeys are Kubernetes' recommended label, and the one of its own components.
func DefaultKeys() Keys { return Keys{App: []string{"app.kubernetes.io/name", "k8s-app"}} }

// Source watches an API server.
type Source struct {
	cluster *labeler.Cluster
	opts    Options
	config  *rest.Config
	// backoff is between attempts; nil: client-go's.
	backoff *wait.Backoff
	// patience is how long pods wait for what they refer to.
	patience time.Duration
}

// New reads the access data. It does not ask the API server yet.
func New(c *labeler.Cluster, o Options) (*Source, error) {
	config, err := access(o)
	if err != nil {
		return nil, fmt.Errorf("access to the API server of cluster %q: %w", c.Name(), err)
	}
	return newSource(c, o, config), nil
}

func access(o Options) (*rest.Config, error) {
	if o.Kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: o.Context}).ClientConfig()
}

func newSource(c *labeler.Cluster, o Options, config *rest.Config) *Source {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	config = rest.CopyConfig(config)
	config.UserAgent = "weir"
	return &Source{cluster: c, opts: o, config: config, patience: syncFirst}
}

// syncFirst is how long pods wait for what they refer to, so that their labels are made once. Where
// something cannot be read, by lack of rights, they do without.
const syncFirst = 10 * time.Second

// Run watches until the context ends. What fails is tried again, and logged.
func (s *Source) Run(ctx context.Context) error {
	client, err := rest.HTTPClientFor(s.config)
	if err != nil {
		return fmt.Errorf("connect to the API server of cluster %q: %w", s.cluster.Name(), err)
	}
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(
		s.opts.Log.With("cluster", s.cluster.Name()).Handler()))
	var running sync.WaitGroup
	defer running.Wait()
	others, pods, err := s.watches(client)
	if err != nil {
		return err
	}
	first, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	for _, w := range others {
		running.Go(func() { w.run(ctx) })
	}
	for _, w := range others {
		select {
		case <-w.synced:
		case <-first.Done():
		}
	}
	running.Go(func() { pods.run(ctx) })
	select {
	case <-pods.synced:
		s.cluster.SetSynced()
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

// watched is one kind of objects that is watched.
type watched struct {
	run    func(context.Context)
	synced <-chan struct{}
}

func (s *Source) watches(client *http.Client) (others []watched, pods watched, err error) {
	c, keys := s.cluster, &s.opts.Keys
	full := func(o *object) string { return o.key() }
	add := func(w watched, e error) {
		others = append(others, w)
		if err == nil {
			err = e
		}
	}
	add(reflector(s, client, kindNode, &store[node]{
		set:  func(n *node, now int64) { c.SetNode(convertNode(n), now) },
		gone: func(n *node, now int64) { c.DeleteNode(n.Metadata.Name, n.Metadata.UID, now) },
		keep: c.KeepNodes, key: func(n *node) string { return n.Metadata.UID }}))
	add(reflector(s, client, kindNamespace, &store[partial]{
		set:  func(n *partial, _ int64) { c.SetNamespace(n.Metadata.Name, n.first(keys.App)) },
		gone: func(n *partial, _ int64) { c.SetNamespace(n.Metadata.Name, "") },
		keep: func(map[string]bool, int64) {}, key: func(n *partial) string { return full(&n.object) }}))
	add(reflector(s, client, kindService, &store[service]{
		set:  func(v *service, _ int64) { c.SetService(convertService(v)) },
		gone: func(v *service, _ int64) { c.DeleteService(v.Metadata.Namespace, v.Metadata.Name) },
		keep: func(all map[string]bool, _ int64) { c.KeepServices(all) },
		key:  func(v *service) string { return full(&v.object) }}))
	add(reflector(s, client, kindSlice, &store[endpointSlice]{
		set:  func(e *endpointSlice, _ int64) { c.SetEndpoints(convertSlice(e)) },
		gone: func(e *endpointSlice, _ int64) { c.DeleteEndpoints(e.Metadata.Namespace, e.Metadata.Name) },
		keep: func(all map[string]bool, _ int64) { c.KeepEndpoints(all) },
		key:  func(e *endpointSlice) string { return full(&e.object) }}))
	for _, k := range []kind{kindReplicaSet, kindJob} {
		add(reflector(s, client, k, &store[partial]{
			set: func(o *partial, _ int64) {
				c.SetOwner(o.Metadata.Namespace, labeler.Ref{Kind: k.name, Name: o.Metadata.Name},
					controller(o.Metadata.Owners))
			},
			gone: func(o *partial, _ int64) {
				c.DeleteOwner(o.Metadata.Namespace, labeler.Ref{Kind: k.name, Name: o.Metadata.Name})
			},
			keep: func(all map[string]bool, _ int64) { c.KeepOwners(k.name, all) },
			key:  func(o *partial) string { return full(&o.object) }}))
	}
	pods, e := reflector(s, client, kindPod, &store[pod]{
		set:  func(p *pod, now int64) { c.SetPod(keys.pod(p, now), now) },
		gone: func(p *pod, now int64) { s.podGone(p, now) },
		keep: c.KeepPods, key: func(p *pod) string { return p.Metadata.UID }})
	if err == nil {
		err = e
	}
	return others, pods, err
}

// podGone ends a pod. What is told with the end may say when that was.
func (s *Source) podGone(p *pod, now int64) {
	last := s.opts.Keys.pod(p, now)
	if last.Until != 0 {
		s.cluster.SetPod(last, now)
	}
	s.cluster.DeletePod(last.UID, now)
}

// kind is a kind of objects.
type kind struct {
	name     string // as in ownerReferences
	resource string
	group    schema.GroupVersion
	// partial asks for metadata only.
	partial bool
}

var (
	coreV1      = schema.GroupVersion{Version: "v1"}
	discoveryV1 = schema.GroupVersion{Group: "discovery.k8s.io", Version: "v1"}
	appsV1      = schema.GroupVersion{Group: "apps", Version: "v1"}
	batchV1     = schema.GroupVersion{Group: "batch", Version: "v1"}
	metaV1      = schema.GroupVersion{Group: "meta.k8s.io", Version: "v1"}

	kindPod        = kind{"Pod", "pods", coreV1, false}
	kindNode       = kind{"Node", "nodes", coreV1, false}
	kindService    = kind{"Service", "services", coreV1, false}
	kindNamespace  = kind{"Namespace", "namespaces", coreV1, true}
	kindSlice      = kind{"EndpointSlice", "endpointslices", discoveryV1, false}
	kindReplicaSet = kind{"ReplicaSet", "replicasets", appsV1, true}
	kindJob        = kind{"Job", "jobs", batchV1, true}
)

// pointer is a *T that client-go takes.
type pointer[T any] interface {
	*T
	runtime.Object
}

// reflector makes a reflector that keeps a store up to date.
func reflector[T any, P pointer[T]](s *Source, client *http.Client, k kind, st *store[T]) (watched, error) {
	st.now = func() int64 { return s.opts.Now().UnixNano() }
	st.synced = make(chan struct{})
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, coreV1)
	at, name := k.group, k.name
	if k.partial {
		at, name = metaV1, "PartialObjectMetadata"
	}
	scheme.AddKnownTypeWithName(at.WithKind(name), P(new(T)))
	scheme.AddKnownTypeWithName(at.WithKind(name+"List"), &list[T]{})
	config := rest.CopyConfig(s.config)
	config.GroupVersion = &k.group
	config.APIPath = "/apis"
	if k.group.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c, err := rest.RESTClientForConfigAndClient(config, client)
	if err != nil {
		return watched{}, fmt.Errorf("watch %s: %w", k.resource, err)
	}
	r := cache.NewReflectorWithOptions(k.listWatch(c), P(new(T)), st,
		cache.ReflectorOptions{Name: k.resource, Backoff: s.backoff})
	return watched{r.RunWithContext, st.synced}, nil
}

func (k kind) listWatch(c rest.Interface) cache.ListerWatcher {
	request := func(o *metav1.ListOptions, accept string) *rest.Request {
		r := c.Get().Resource(k.resource).VersionedParams(o, metav1.ParameterCodec)
		if k.partial {
			r = r.SetHeader("Accept", "application/json;as="+accept+";g=meta.k8s.io;v=v1,application/json")
		}
		return r
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return request(&o, "PartialObjectMetadataList").Do(ctx).Get()
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return request(&o, "PartialObjectMetadata").Watch(ctx)
		},
	}
}
