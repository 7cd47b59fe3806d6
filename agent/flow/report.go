package flow

// Report is anything that the agent reports: one of its fields is set.
type Report struct {
	Record *Record
	Drop   *Drop
	DNS    *DNS
}

// Numbered tells who numbers the report, and how. Kinds of reports are numbered on their own; agents other
// than weir number nothing, and have 0.
func (r Report) Numbered() (boot string, sequence uint64) {
	switch {
	case r.Record != nil:
		return r.Record.Boot, r.Record.Sequence
	case r.Drop != nil:
		return r.Drop.Boot, r.Drop.Sequence
	case r.DNS != nil:
		return r.DNS.Boot, r.DNS.Sequence
	}
	return "", 0
}

// Kind names the field that is set: "flow", "drop", or "dns".
func (r Report) Kind() string {
	switch {
	case r.Drop != nil:
		return "drop"
	case r.DNS != nil:
		return "dns"
	}
	return "flow"
}
