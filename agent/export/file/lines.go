package file

import (
	"fmt"

	"github.com/weirnet/weir/agent/flow"
)

// WriteDrop takes a drop record, which becomes a line of its own. It may stay in the buffer until
// Flush.
func (s *Sink) WriteDrop(d *flow.Drop) error {
	line := struct {
		Drop *flow.Drop `json:"drop"`
	}{d}
	if err := s.enc.Encode(line); err != nil {
		s.restart()
		return fmt.Errorf("write a drop record: %w", err)
	}
	return nil
}
