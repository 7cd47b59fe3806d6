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

// WriteDNS takes a DNS record, likewise.
func (s *Sink) WriteDNS(d *flow.DNS) error {
	line := struct {
		DNS *flow.DNS `json:"dns"`
	}{d}
	if err := s.enc.Encode(line); err != nil {
		s.restart()
		return fmt.Errorf("write a DNS record: %w", err)
	}
	return nil
}
