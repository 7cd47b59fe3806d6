package report

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

func TestHTMLStandsAlone(t *testing.T) {
	got := render(t, HTML, sample())
	require.Empty(t, regexp.MustCompile(`(?i)(src|href)="?(https?:|//|[a-z]+\.)`).FindString(got))
	require.NotContains(t, got, "@import")
	require.NotContains(t, got, "ZgotmplZ") // what html/template writes for what it refuses
	require.Contains(t, got, `<button type="button" class="cell fail"`)
	require.Contains(t, got, `aria-label="tcp/handshake-v4 on 6.1: fail, 92 ms"`)
}

func TestHTMLHostile(t *testing.T) {
	got := render(t, HTML, evil())
	require.NotContains(t, got, "<script>alert")
	require.Equal(t, 2, strings.Count(got, "</script>"))
	require.Equal(t, 2, strings.Count(got, "<script"))
	data := got[strings.Index(got, `id="data">`)+len(`id="data">`):]
	data, _, _ = strings.Cut(data, "</script>")
	var p pageScript
	require.NoError(t, json.Unmarshal([]byte(data), &p))
	require.Equal(t, hostile, p.Rows[0].Name)
	require.Equal(t, hostile, p.Rows[0].Cells[0].Differences[0].Fields[0].Want)
}

func TestHTMLSize(t *testing.T) {
	for name, tc := range map[string]struct {
		report *result.Report
		limit  int
	}{
		"good":       {large(0, 400), 2200 << 10},
		"long logs":  {large(0, 40_000), 3_000_000},
		"a few red":  {large(30, 5000), 3_000_000},
		"every red":  {large(1, 20_000), 3_000_000},
		"only names": {large(0, 0), 1000 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			got := render(t, HTML, tc.report)
			t.Logf("%d bytes in %v", len(got), time.Since(start))
			require.Less(t, len(got), tc.limit)
		})
	}
}

func BenchmarkHTML(b *testing.B) {
	r := large(30, 2000)
	b.ReportAllocs()
	for b.Loop() {
		var n counter
		if err := HTML(&n, r); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "bytes/page")
	}
}

// counter counts what is written to it.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
