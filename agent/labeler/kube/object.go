package kube

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// The types below hold what is read of Kubernetes' objects, and nothing else: what is left out is
// not even kept for a moment. Their fields are those of k8s.io/api.

// object is what all objects have.
type object struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metadata `json:"metadata"`
}

type metadata struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Created         time.Time         `json:"creationTimestamp,omitzero"`
	Labels          map[string]string `json:"labels"`
	Owners          []reference       `json:"ownerReferences"`
	// Annotations has the one that ends a stream of initial objects, and of pods that a kubelet reads from
	// files the UID by which it calls them.
	Annotations struct {
		InitialEnd string `json:"k8s.io/initial-events-end"`
		ConfigHash string `json:"kubernetes.io/config.hash"`
	} `json:"annotations"`
}

type reference struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Controller bool   `json:"controller"`
}

// GetObjectMeta gives client-go what it reads of an object; it changes nothing.
func (o *object) GetObjectMeta() metav1.Object {
	m := &o.Metadata
	out := &metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: types.UID(m.UID),
		ResourceVersion: m.ResourceVersion}
	if end := m.Annotations.InitialEnd; end != "" {
		out.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: end}
	}
	return out
}

// key is how the object is called among those of its kind.
func (o *object) key() string { return o.Metadata.Namespace + "/" + o.Metadata.Name }

// first gives the first label that there is of some.
func (o *object) first(keys []string) string {
	for _, k := range keys {
		if v := o.Metadata.Labels[k]; v != "" {
			return v
		}
	}
	return ""
}

// list is a list of any of the types below.
type list[T any] struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []T `json:"items"`
}

type pod struct {
	object `json:",inline"`
	Spec   struct {
		Node        string `json:"nodeName"`
		HostNetwork bool   `json:"hostNetwork"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
		IP    string `json:"podIP"`
		IPs   []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
		Start      time.Time         `json:"startTime,omitzero"`
		Conditions []condition       `json:"conditions"`
		Containers []containerStatus `json:"containerStatuses"`
	} `json:"status"`
}

type condition struct {
	Type   string    `json:"type"`
	Status string    `json:"status"`
	Since  time.Time `json:"lastTransitionTime,omitzero"`
}

type containerStatus struct {
	State struct {
		Terminated struct {
			Finished time.Time `json:"finishedAt,omitzero"`
		} `json:"terminated"`
	} `json:"state"`
}

type node struct {
	object `json:",inline"`
	Spec   struct {
		Provider string   `json:"providerID"`
		PodCIDRs []string `json:"podCIDRs"`
	} `json:"spec"`
	Status struct {
		Addresses []struct {
			Type    string `json:"type"`
			Address string `json:"address"`
		} `json:"addresses"`
	} `json:"status"`
}

type service struct {
	object `json:",inline"`
	Spec   struct {
		ClusterIPs  []string `json:"clusterIPs"`
		ExternalIPs []string `json:"externalIPs"`
		Ports       []struct {
			Protocol string `json:"protocol"`
			Port     uint16 `json:"port"`
			NodePort uint16 `json:"nodePort"`
		} `json:"ports"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct {
				IP string `json:"ip"`
			} `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

type endpointSlice struct {
	object    `json:",inline"`
	Endpoints []struct {
		Addresses []string `json:"addresses"`
	} `json:"endpoints"`
	Ports []struct {
		Protocol string `json:"protocol"`
		Port     uint16 `json:"port"`
	} `json:"ports"`
}

// partial is any object of which only the metadata is asked for.
type partial struct {
	object `json:",inline"`
}

// DeepCopyObject and its likes make the types known to client-go, which does not copy what it
// has just decoded: a flat copy does.
func (o *list[T]) DeepCopyObject() runtime.Object       { c := *o; return &c }
func (o *pod) DeepCopyObject() runtime.Object           { c := *o; return &c }
func (o *node) DeepCopyObject() runtime.Object          { c := *o; return &c }
func (o *service) DeepCopyObject() runtime.Object       { c := *o; return &c }
func (o *endpointSlice) DeepCopyObject() runtime.Object { c := *o; return &c }
func (o *partial) DeepCopyObject() runtime.Object       { c := *o; return &c }
