package result

// Outline is what a scenario is about, whatever comes of it.
type Outline struct {
	Tags  []string `json:"tags,omitempty"` // words to select by
	Chart *Chart   `json:"chart,omitempty"`
}

// Chart is what a scenario sends, as a sequence: hosts are lifelines.
type Chart struct {
	Hosts []ChartHost `json:"hosts"`
	Items []ChartItem `json:"items"`
	More  int         `json:"more,omitempty"` // items that are left out
}

// ChartHost is a lifeline.
type ChartHost struct {
	Name    string   `json:"name"`
	Watched []string `json:"watched,omitempty"` // interfaces that the agent watches
}

// What From and To can be besides a host's number, from 0.
const (
	Nobody = -1 // no host has the address
	All    = -2 // every host on the segment
)

// ChartItem is a row of a chart.
type ChartItem struct {
	Kind  string   `json:"kind"`            // step, event, message or note
	Line  int      `json:"line,omitempty"`  // in the file; of steps and events
	Text  string   `json:"text"`            // a step in the file's words, or what a frame is
	From  int      `json:"from"`            // of messages and notes
	To    int      `json:"to"`              // likewise
	Count int      `json:"count,omitempty"` // of equal frames, when it is not one
	Marks []string `json:"marks,omitempty"` // what is special
	Seen  []int    `json:"seen,omitempty"`  // hosts where the agent sees the frame
}

// Flake is a scenario that came out differently in runs of one binary on one kernel.
type Flake struct {
	Scenario string `json:"scenario"`
	Kernel   string `json:"kernel"`           // its line
	Version  string `json:"version"`          // of the kernel
	Weir     string `json:"weir"`             // version of the binary
	Runs     int    `json:"runs"`             // that were red or green
	Red      int    `json:"red"`              // of them
	Reason   string `json:"reason,omitempty"` // of the latest red one
}
