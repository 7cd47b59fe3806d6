package matrix

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/vmtests/qemu"
)

// A guest that crashes while it boots costs no scenario, and is told of; one that hangs is not waited for again.
func TestBootAgain(t *testing.T) {
	crash := fmt.Errorf("%w; the end of its console:\nKernel panic", errEnded)
	hang := fmt.Errorf("%w within 60s", errNotReady)
	for name, c := range map[string]struct {
		boots   []error
		crashes []string
		err     error
	}{
		"at once":      {boots: []error{nil}},
		"a crash":      {boots: []error{crash, nil}, crashes: []string{crash.Error()}},
		"crashes":      {boots: []error{crash, crash, nil}, crashes: []string{crash.Error(), crash.Error()}},
		"only crashes": {boots: []error{crash, crash, crash}, err: crash},
		"a hang":       {boots: []error{hang}, err: hang},
		"both":         {boots: []error{crash, hang}, err: hang},
		"no QEMU":      {boots: []error{errors.ErrUnsupported}, err: errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			left := c.boots
			vm := &qemu.VM{}
			got, f, err := bootAgain(func() (*qemu.VM, facts, error) {
				err := left[0]
				left = left[1:]
				if err != nil {
					return nil, facts{}, err
				}
				return vm, facts{BootMillis: 7}, nil
			})
			require.Empty(t, left)
			require.Equal(t, c.err, err)
			require.Equal(t, c.crashes, f.Crashes)
			if err == nil {
				require.Same(t, vm, got)
				require.EqualValues(t, 7, f.BootMillis)
			}
		})
	}
}
