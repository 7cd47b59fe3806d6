// Package podgroup tells which pod a control group of Linux belongs to.
package podgroup

import "strings"

// UID finds the UID of the pod in the path of a control group, as the kubelet names them; "" is a group of no pod.
// It is the UID of the pod's object, or of a pod that the kubelet reads from a file the hash of that file. With groups
// of pods in one another, the outermost pod's is told.
//
// There are two ways to name them, the kubelet's cgroupDriver: below the kubelet's kubepods, a folder
// pod<UID> (cgroupfs), or ...-pod<UID>.slice with _ for - (systemd). What container runtimes put below that does not
// matter.
func UID(path string) string {
	below := false
	for name := range strings.SplitSeq(path, "/") {
		if below {
			if uid := ofName(name); uid != "" {
				return uid
			}
		}
		below = below || isTop(name)
	}
	return ""
}

// isTop tells whether a folder is one in which the kubelet has its pods: kubepods, kubepods.slice, or
// kubelet-kubepods.slice where the kubelet has a group of its own.
func isTop(name string) bool {
	name = strings.TrimSuffix(name, ".slice")
	return name == "kubepods" || strings.HasSuffix(name, "-kubepods")
}

func ofName(name string) string {
	uid, ok := strings.CutPrefix(name, "pod")
	if slice, systemd := strings.CutSuffix(name, ".slice"); systemd {
		_, uid, ok = strings.Cut(slice, "-pod")
		uid = strings.ReplaceAll(uid, "_", "-")
	}
	if !ok || !IsUID(uid) {
		return ""
	}
	return uid
}

// IsUID tells whether a text can be a pod's UID: 32 hexadecimal digits in lower case, or with dashes as RFC 9562
// writes them.
func IsUID(s string) bool {
	digits := strings.ReplaceAll(s, "-", "")
	if len(digits) != 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return false
	}
	return len(s) == 32 || len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}
