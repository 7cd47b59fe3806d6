package differ

import (
	"fmt"
	"slices"

	"github.com/weirnet/weir/sim/result"
)

// Judge plays all vectors of a file and compares what the datapath says with what the model says
// and with what the file expects. It returns what the file would have to say, where both agree.
func (d *Differ) Judge(f *File) (diffs []result.Difference, said [][]string, err error) {
	for i := range f.Vectors {
		v := &f.Vectors[i]
		datapath, reference, err := d.Trace(&v.Case)
		if err != nil {
			return nil, nil, fmt.Errorf("%s:%d: vector %s: %w", f.Name, v.Line, v.Name, err)
		}
		switch {
		case !slices.Equal(datapath, reference):
			diffs = append(diffs, difference("model", v.Name, reference, datapath))
		case !slices.Equal(datapath, v.Want):
			diffs = append(diffs, difference("golden", v.Name, v.Want, datapath))
		}
		said = append(said, datapath)
	}
	return diffs, said, nil
}

// difference names the lines of want and got that are not equal.
func difference(against, name string, want, got []string) result.Difference {
	diff := result.Difference{Section: "vectors", Against: against, Kind: "differs", Record: name}
	for i := range max(len(want), len(got)) {
		if w, g := at(want, i), at(got, i); w != g {
			diff.Fields = append(diff.Fields,
				result.Field{Name: fmt.Sprintf("line %d", i+1), Want: w, Got: g})
		}
	}
	return diff
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// disagrees tells whether any difference is between the datapath and the model.
func disagrees(diffs []result.Difference) bool {
	return slices.ContainsFunc(diffs, func(d result.Difference) bool { return d.Against == "model" })
}
