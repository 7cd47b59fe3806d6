// Package kerneltest is what tests that use the running kernel share.
package kerneltest

import (
	"os"
	"testing"

	"github.com/google/gopacket/layers"
)

// NeedRoot skips a test that loads programs, makes network namespaces or mounts, where it may not. In CI
// it may: there it fails, so that nothing is taken for tested that was not. What it finds holds for this
// kernel alone (OfKernel).
func NeedRoot(t testing.TB) {
	t.Helper()
	OfKernel()
	if os.Geteuid() != 0 {
		Lacking(t, "root")
	}
}

// OfKernel binds what a test finds to the running kernel: Go answers for tests that have passed as long as
// the variables that they have read are the same, and the Makefile names the kernel and the user in this one.
func OfKernel() { _ = os.Getenv("TEST_MACHINE") }

// Lacking skips a test that needs something which a machine may lack, and CI has: there it fails.
func Lacking(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s, which CI has", what)
	}
	t.Skipf("skipped: needs %s", what)
}

// SetFlags sets the flags of a TCP header that letters stand for, as in "SA": S, A, F, R, P.
func SetFlags(h *layers.TCP, letters string) {
	for _, l := range letters {
		switch l {
		case 'S':
			h.SYN = true
		case 'A':
			h.ACK = true
		case 'F':
			h.FIN = true
		case 'R':
			h.RST = true
		case 'P':
			h.PSH = true
		}
	}
}
