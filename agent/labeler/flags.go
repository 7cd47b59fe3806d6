package labeler

import (
	"slices"
	"strconv"
	"strings"

	"github.com/weirnet/weir/agent/flow"
)

// ConnectionFlag is a remark on how a flow was labelled.
type ConnectionFlag string

// The flags; package flow says what they mean.
const (
	AmbiguousOwner   ConnectionFlag = "AMBIGUOUS_OWNER"
	ServiceInferred  ConnectionFlag = "SERVICE_INFERRED"
	ServiceAmbiguous ConnectionFlag = "SERVICE_AMBIGUOUS"
	Mirror           ConnectionFlag = "MIRROR"
)

// String returns the flag's name.
func (f ConnectionFlag) String() string { return string(f) }

// ConnectionFlags is a set of flags. Those of LabelFlow are shared: they must not be changed.
type ConnectionFlags map[ConnectionFlag]bool

// String is the set as ClickHouse reads a Map: {'A':true,'B':false}, by name.
func (m ConnectionFlags) String() string {
	names := make([]string, 0, len(m))
	for f := range m {
		names = append(names, string(f))
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteByte('{')
	for i, n := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("'" + flagEscape.Replace(n) + "':" + strconv.FormatBool(m[ConnectionFlag(n)]))
	}
	b.WriteByte('}')
	return b.String()
}

var flagEscape = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// flagSets holds every set that LabelFlow can give, so that it need not make one.
var flagSets = makeFlagSets()

func makeFlagSets() (sets [16]ConnectionFlags) {
	for bits := range sets {
		set := ConnectionFlags{}
		for i, f := range []ConnectionFlag{AmbiguousOwner, ServiceInferred, ServiceAmbiguous, Mirror} {
			if bits&(1<<i) != 0 {
				set[f] = true
			}
		}
		sets[bits] = set
	}
	return sets
}

func connectionFlags(f flow.LabelFlags) ConnectionFlags { return flagSets[int(f)%len(flagSets)] }
