package ifaces

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Selector chooses interfaces. The zero value chooses all.
type Selector struct {
	allow, deny []rule
}

// rule is one of the three.
type rule struct {
	name    string
	pattern *regexp.Regexp
	prefix  netip.Prefix
}

// NewSelector makes a selector of those interfaces that an item of allow fits, all if it is empty, and
// no item of deny. An item is a name, a regular expression between slashes, like /^veth/, or a prefix,
// like 10.0.0.0/8, which fits an interface with an address in it.
func NewSelector(allow, deny []string) (Selector, error) {
	var s Selector
	for list, texts := range map[string][]string{"allow": allow, "deny": deny} {
		rules, err := parseRules(texts)
		if err != nil {
			return Selector{}, fmt.Errorf("%s%w", list, err)
		}
		if list == "allow" {
			s.allow = rules
		} else {
			s.deny = rules
		}
	}
	return s, nil
}

func parseRules(texts []string) (rules []rule, err error) {
	for i, text := range texts {
		r, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// parseRule reads an item. No interface has a slash in its name, so one tells the kinds apart.
func parseRule(text string) (r rule, err error) {
	switch {
	case text == "":
		return r, fmt.Errorf("is empty; want a name, a regular expression like /^veth/, or a prefix like 10.0.0.0/8")
	case !strings.Contains(text, "/"):
		return rule{name: text}, nil
	case len(text) > 1 && text[0] == '/' && text[len(text)-1] == '/':
		if r.pattern, err = regexp.Compile(text[1 : len(text)-1]); err != nil {
			return r, fmt.Errorf("%q: %w", text, err)
		}
		return r, nil
	}
	if r.prefix, err = netip.ParsePrefix(text); err != nil {
		return r, fmt.Errorf("%q: want a name, a regular expression like /^veth/, or a prefix like 10.0.0.0/8", text)
	}
	r.prefix = r.prefix.Masked()
	return r, nil
}

// addresses tells whether the choice depends on interfaces' addresses.
func (s *Selector) addresses() bool {
	byPrefix := func(r rule) bool { return r.prefix.IsValid() }
	return slices.ContainsFunc(s.allow, byPrefix) || slices.ContainsFunc(s.deny, byPrefix)
}

// wants tells whether an interface is chosen.
func (s *Selector) wants(name string, addresses []netip.Addr) bool {
	fits := func(r rule) bool { return r.fits(name, addresses) }
	return (len(s.allow) == 0 || slices.ContainsFunc(s.allow, fits)) && !slices.ContainsFunc(s.deny, fits)
}

func (r *rule) fits(name string, addresses []netip.Addr) bool {
	switch {
	case r.pattern != nil:
		return r.pattern.MatchString(name)
	case r.prefix.IsValid():
		return slices.ContainsFunc(addresses, r.prefix.Contains)
	}
	return r.name == name
}
