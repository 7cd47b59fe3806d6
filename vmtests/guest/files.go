package guest

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirnet/weir/vmtests/wire"
)

// searched is where programs lie that the host has sent.
const searched = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// place puts the host's files where they are there, and lets programs be found.
func place(files []wire.File) error {
	if len(files) == 0 {
		return nil
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("place a file of the host: %w", err)
		}
		if err := os.WriteFile(f.Path, f.Body, os.FileMode(f.Mode)); err != nil {
			return fmt.Errorf("place a file of the host: %w", err)
		}
	}
	return os.Setenv("PATH", searched)
}
