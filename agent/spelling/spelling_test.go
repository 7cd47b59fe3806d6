package spelling

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	known := []string{"table", "takeover", "output"}
	for word, want := range map[string]string{"tabel": "table", "TABLE": "table", "outptu": "output", "x": "", "": "",
		"interval": "", strings.Repeat("table", 20): ""} {
		require.Equal(t, want, Nearest(word, known), word)
	}
}
