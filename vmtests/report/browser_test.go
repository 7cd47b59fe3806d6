package report

import (
	"context"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/sim/result"
)

// browse opens a page in chromium and returns its document after its scripts have run, and what
// they wrote to the console. Without chromium the test is skipped.
func browse(t *testing.T, url string, flags ...string) (dom, console string) {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium on PATH: the page is not tested in a browser")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, log strings.Builder
	cmd := exec.CommandContext(ctx, program, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--enable-logging=stderr", "--user-data-dir=" + t.TempDir(), "--dump-dom",
	}, append(flags, url)...)...)
	cmd.Stdout, cmd.Stderr = &out, &log
	cmd.WaitDelay = 5 * time.Second
	require.NoError(t, cmd.Run(), log.String())
	for l := range strings.Lines(log.String()) {
		if strings.Contains(l, "CONSOLE") {
			console += l
		}
	}
	return out.String(), console
}

// panelText is the text of the open panel of a dumped document.
func panelText(t *testing.T, dom string) string {
	t.Helper()
	_, panel, ok := strings.Cut(dom, `<aside id="panel"`)
	require.True(t, ok)
	panel, _, _ = strings.Cut(panel, "</aside>")
	attrs, panel, _ := strings.Cut(panel, ">")
	if strings.Contains(attrs, "hidden") {
		return ""
	}
	return html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(panel, " "))
}

// pageURL writes the page of r, with a script added when there is one to play the user.
func pageURL(t *testing.T, r *result.Report, script string) string {
	t.Helper()
	text := render(t, HTML, r)
	if script != "" {
		text = regexp.MustCompile(`(?s)<meta http-equiv=.*?>`).ReplaceAllString(text, "")
		text += "<script>" + script + "</script>"
	}
	file := filepath.Join(t.TempDir(), HTMLFile)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return "file://" + file
}

func TestBrowserDeepLinks(t *testing.T) {
	url := pageURL(t, sample(), "")
	for fragment, want := range map[string][]string{
		"": nil,
		"#tcp/handshake-v4@6.1": {"tcp/handshake-v4", "on 6.1", "✗ fail",
			"2 differences from the golden file", "SYN|", "390", "-54", "weir vm run --kernel 6.1"},
		"#lifecycle%2Fadopt%406.18": {"P panic", "Kernel panic - not syncing"},
		"#l2/qinq@5.10":             {"- skip", "needs feature tcx"},
		"#@6.12":                    {"kernel 6.12", "6.12.94+deb13-amd64", strings.Repeat("12", 32)},
		"#@rc":                      {"∅ unavailable", "no package of a release candidate"},
		"#nothing@there":            nil,
		"#%zz@@":                    nil,
	} {
		t.Run(fragment, func(t *testing.T) {
			dom, console := browse(t, url+fragment)
			require.Contains(t, dom, `data-ready="true"`)
			require.NotContains(t, dom, "data-error")
			require.Empty(t, console)
			text := panelText(t, dom)
			require.Equal(t, len(want) == 0, text == "")
			for _, w := range want {
				require.Contains(t, text, w)
			}
		})
	}
}

// TestBrowserUse plays a user: click, Enter, arrows, Escape, filters, print.
func TestBrowserUse(t *testing.T) {
	dom, console := browse(t, pageURL(t, sample(), `
const at = (name, k) => [...document.querySelectorAll('.cell')].find(c =>
  c.getAttribute('aria-label').startsWith(name + ' on ' + k + ':'));
const key = (k, on) => (on || document.activeElement).dispatchEvent(
  new KeyboardEvent('keydown', { key: k, bubbles: true, cancelable: true }));
const tick = () => new Promise(r => setTimeout(r, 60));
const title = () => (document.querySelector('#panel h2') || {}).textContent || 'closed';
const shown = () => document.getElementById('shown').textContent;
const said = [];
(async () => {
  at('tcp/handshake-v4', '6.12').click(); await tick();
  said.push('click ' + title() + ' ' + location.hash +
    ' fields ' + document.querySelectorAll('#panel .fields tbody tr').length);
  key('n'); await tick();
  said.push('next ' + title());
  key('Escape'); await tick();
  said.push('escape ' + title() + ' hash=' + location.hash + ' focus ' +
    document.activeElement.getAttribute('aria-label'));
  key('ArrowRight'); key('ArrowDown');
  said.push('arrows ' + document.activeElement.getAttribute('aria-label'));
  document.activeElement.click(); await tick(); // what Enter does on a button
  said.push('enter ' + title() + ' focus in panel ' +
    document.getElementById('panel').contains(document.activeElement));
  document.getElementById('red').click();
  said.push('red ' + shown());
  const text = document.getElementById('text');
  text.value = 'HAND golden'; text.dispatchEvent(new Event('input'));
  said.push('text ' + shown());
  document.getElementById('clear').click();
  said.push('clear ' + shown());
  document.querySelector('.chip[data-verdict=hang]').click();
  said.push('chip ' + shown());
  text.value = 'zzz'; text.dispatchEvent(new Event('input'));
  said.push('none ' + shown() + ' ' + document.getElementById('empty').hidden);
  document.getElementById('clear').click();
  const choose = (id, v) => { const e = document.getElementById(id); e.value = v;
    e.dispatchEvent(new Event('change')); };
  const columns = () => document.querySelectorAll('#matrix thead .kernel:not([hidden])').length;
  document.getElementById('changed').click();
  said.push('changed ' + shown());
  document.getElementById('changed').click();
  choose('tag', 'tcp');
  said.push('tag ' + shown());
  choose('tag', '');
  choose('kernel', '3'); document.getElementById('red').click();
  said.push('kernel ' + shown() + ' columns ' + columns());
  key('n'); await tick();
  said.push('red there ' + title());
  document.getElementById('clear').click();
  said.push('clear ' + shown() + ' columns ' + columns());
  const views = [...document.querySelectorAll('#views button')].map(b => { b.click();
    return [...document.querySelectorAll('section[data-view]')].filter(s => !s.hidden)
      .map(s => s.dataset.view).join(); });
  said.push('views ' + views.join(' ') + ' ' + title());
  said.push('moved ' + document.querySelectorAll('.cost .moved').length);
  location.hash = '#tcp/handshake-v4@6.1'; await tick();
  said.push('back ' + title() + ' ' + document.getElementById('matrix').closest('section').hidden +
    ' chart ' + document.querySelectorAll('#panel .chart .arrow').length);
  window.dispatchEvent(new Event('beforeprint'));
  said.push('print ' + document.querySelectorAll('#print .detail').length);
  document.documentElement.dataset.said = said.join('; ');
})();`), "--virtual-time-budget=5000")
	require.Empty(t, console)
	require.NotContains(t, dom, "data-error")
	_, said, _ := strings.Cut(dom, `data-said="`)
	said, _, _ = strings.Cut(said, `"`)
	require.Equal(t, []string{
		"click tcp/handshake-v4 on 6.12 #tcp/handshake-v4@6.12 fields 4",
		"next tcp/reset on 5.10",
		"escape closed hash= focus tcp/reset on 5.10: missing, 110 ms",
		"arrows tcp/retransmission on 6.1: pass, 80 ms",
		"enter tcp/retransmission on 6.1 focus in panel true",
		"red 9 of 24 scenarios", "text 1 of 24 scenarios", "clear 24 scenarios",
		"chip 1 of 24 scenarios", "none 0 of 24 scenarios false",
		"changed 2 of 24 scenarios", "tag 8 of 24 scenarios", "kernel 2 of 24 scenarios columns 1",
		"red there lifecycle/adopt on 6.18", "clear 24 scenarios columns 7",
		"views matrix costs times flaky closed", "moved 2",
		"back tcp/handshake-v4 on 6.1 false chart 6", "print 10",
	}, strings.Split(said, "; "))
}

func TestBrowserHostile(t *testing.T) {
	r := evil()
	dom, console := browse(t, pageURL(t, r, `document.querySelector('.cell').click();`),
		"--virtual-time-budget=1000")
	require.Empty(t, console)
	require.NotContains(t, dom, "data-error")
	require.Contains(t, panelText(t, dom), "</script><script>alert(1)</script>")
	require.NotContains(t, dom, "<script>alert")
}

// TestBrowserScreenshots keeps pictures of the page (go test -artifacts), light and dark, and printed.
func TestBrowserScreenshots(t *testing.T) {
	url := pageURL(t, sample(), "") + "#tcp/handshake-v4@6.1"
	dir := t.ArtifactDir()
	for name, flags := range map[string][]string{
		"light.png": nil,
		"dark.png":  {"--force-dark-mode", "--blink-settings=preferredColorScheme=0"},
	} {
		file := filepath.Join(dir, name)
		browse(t, url, append(flags, "--screenshot="+file, "--window-size=1600,860")...)
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(20_000), "%s is a picture of something", name)
	}
	file := filepath.Join(dir, "print.pdf")
	browse(t, url, "--print-to-pdf="+file)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(20_000))
}

// TestBrowserLarge: 7 kernels x 120 scenarios are there within a second.
func TestBrowserLarge(t *testing.T) {
	dom, console := browse(t, pageURL(t, large(5, 3000), `
document.documentElement.dataset.ms = Math.round(performance.now());`))
	require.Empty(t, console)
	require.Contains(t, dom, `data-ready="true"`)
	ms := regexp.MustCompile(`data-ms="(\d+)"`).FindStringSubmatch(dom)
	require.NotNil(t, ms)
	t.Logf("interactive after %s ms", ms[1])
}
