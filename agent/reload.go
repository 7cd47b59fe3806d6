package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weirnet/weir/agent/settings"
)

// reloadableKeys are those that can change while the agent runs, alone or as the beginning of a path.
var reloadableKeys = []string{"lifetimes", "takeover", "mid_stream", "tunnels", "filters", "table", "interval", "pace",
	"stop_timeout", "log.level", "discover"}

// fixedKeys are those whose change would make no sense even if it were done, and why.
var fixedKeys = map[string]string{
	"sample":          "records tell the factor, and connections are reported that another one has chosen",
	"active":          "features keep values for as long as it says",
	"discover.zone":   "connections would go on in another zone",
	"discover.hook":   "hooks would have to be taken off in between, and packets not be seen",
	"discover.anchor": "hooks would have to be taken off in between, and packets not be seen",
}

func reloadable(path string) bool {
	if _, fixed := fixedKeys[path]; fixed {
		return false
	}
	for _, key := range reloadableKeys {
		if path == key || strings.HasPrefix(path, key+".") || strings.HasPrefix(path, key+"[") {
			return true
		}
	}
	return false
}

// Reload changes what a new configuration has different, and returns the keys. When one of them cannot
// change while the agent runs, or a change fails, nothing is changed.
func (a *Agent) Reload(cfg Config) (changed []string, err error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a.looking.Lock()
	defer a.looking.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return nil, errors.New("the agent has stopped")
	}
	changed = settings.Changed(a.cfg, cfg)
	if err := a.reloads(changed, &cfg); err != nil {
		return nil, err
	}
	search, err := a.searchAgain(&cfg)
	if err != nil {
		return nil, err
	}
	if err := a.apply(&cfg); err != nil {
		return nil, errors.Join(err, search.abandon(), a.apply(&a.cfg))
	}
	a.cfg = cfg
	if err := a.adopt(search); err != nil {
		a.log.Error("discover", "error", err) // of the former finder, which is not asked any more
	}
	return changed, nil
}

// reloads is an error when one of the keys cannot change.
func (a *Agent) reloads(keys []string, cfg *Config) error {
	var errs []error
	if cfg.namespaces() && !a.foreign {
		errs = append(errs, errors.New("discover.namespaces: needs a new start: what it takes to enter other "+
			"namespaces (CAP_SYS_ADMIN) was given up"))
	}
	for _, key := range keys {
		why, fixed := fixedKeys[key]
		switch {
		case fixed:
			errs = append(errs, fmt.Errorf("%s: needs a new start: %s", key, why))
		case !reloadable(key):
			errs = append(errs, fmt.Errorf("%s: needs a new start", key))
		case (key == "interval" || strings.HasPrefix(key, "pace.")) && a.features != nil:
			errs = append(errs, fmt.Errorf("%s: needs a new start: features keep values for as long as it says", key))
		}
	}
	return errors.Join(errs...)
}

// apply makes the agent work by a configuration. What can fail comes first.
func (a *Agent) apply(cfg *Config) error {
	s, err := cfg.settings()
	if err != nil {
		return err
	}
	if cfg.Table.Size != a.dp.Options().Table {
		if err := a.resize(cfg.Table.Size); err != nil {
			return err
		}
	}
	if err := a.dp.Configure(s); err != nil {
		return err
	}
	a.sweeper.evicts = cfg.Table.Full == fullEvict
	if err := a.sweeper.arm(a.sweeper.evicts); err != nil {
		return err
	}
	if a.level != nil {
		a.level.Set(cfg.Log.Level)
	}
	a.pacer = newPacer(cfg)
	a.pulse.setLimit(cfg)
	select {
	case <-a.interval: // nobody has read the last one
	default:
	}
	a.interval <- cfg.Interval
	return nil
}
