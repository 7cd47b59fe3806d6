package chart

import "github.com/weirnet/weir/sim/result"

// maxItems is how many rows a report has of a chart.
const maxItems = 100

// kindWords are the kinds of items in reports.
var kindWords = map[Kind]string{Step: "step", Message: "message", Note: "note", Event: "event"}

// Result is the chart as reports have it.
func (c *Chart) Result() *result.Chart {
	out := &result.Chart{Hosts: []result.ChartHost{}, Items: []result.ChartItem{}}
	for _, h := range c.Hosts {
		out.Hosts = append(out.Hosts, result.ChartHost{Name: h.Name, Watched: h.Watched})
	}
	for i, item := range c.Items {
		if i == maxItems {
			out.More = len(c.Items) - i
			break
		}
		row := result.ChartItem{Kind: kindWords[item.Kind], Text: item.Text, From: item.From, To: item.To,
			Marks: item.Marks, Seen: item.Seen}
		if item.Kind == Step || item.Kind == Event {
			row.Line = item.Line
		}
		if item.Count > 1 {
			row.Count = item.Count
		}
		out.Items = append(out.Items, row)
	}
	return out
}
