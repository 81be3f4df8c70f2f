package bench

import (
	"fmt"
	"math"
	"strings"
	"text/template"
	"time"
)

// The picture's measures, in pixels.
const (
	barsLeft   = 210 // where the bars of the first panel begin
	timesWidth = 320 // of the time axis
	lostWidth  = 120 // of the longest bar of the second panel
	panelStep  = 490 // from the first panel's bars to the second's
	rowHeight  = 40
	rowsTop    = 82
)

// least is where the time axis begins. It is logarithmic: on a linear one, who waits 10 s hides all others.
const least = time.Millisecond

// A picture in a page follows the reader's colour scheme by itself: media queries hold in SVG too.
var pictureTemplate = template.Must(template.New("bench.svg").Parse(`<svg xmlns="http://www.w3.org/2000/svg" ` +
	`width="{{.Width}}" height="{{.Height}}" viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="{{.Title | html}}">
<style>
  text { font: 13px sans-serif; fill: #1f2328 }
  .title { font-weight: bold }
  .note { fill: #59636e }
  .bar { fill: #0969da }
  .ours { fill: #1a7f37 }
  .worst { fill-opacity: 0.35 }
  .axis { stroke: #8c959f }
  .tick { stroke: #8c959f; stroke-opacity: 0.4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .bar { fill: #4493f8 }
    .ours { fill: #3fb950 }
  }
</style>
<text class="title" x="10" y="22">{{.Title | html}}</text>
{{- range .Panels}}
<text class="title" x="{{.X}}" y="48">{{.Title | html}}</text>
<line class="axis" x1="{{.X}}" y1="72" x2="{{.X}}" y2="{{$.Bottom}}"/>
{{- end}}
{{- range .Ticks}}
<text class="note" text-anchor="middle" x="{{.X}}" y="66">{{.Text | html}}</text>
<line class="tick" x1="{{.X}}" y1="72" x2="{{.X}}" y2="{{$.Bottom}}"/>
{{- end}}
{{- range .Rows}}
<text x="10" y="{{.TextY}}">{{.Name | html}}</text>
{{- range .Bars}}
<rect class="{{.Class}}" x="{{.X}}" y="{{.Y}}" width="{{.Width}}" height="18"/>
{{- end}}
{{- range .Labels}}
<text class="note" x="{{.X}}" y="{{.Y}}">{{.Text | html}}</text>
{{- end}}
{{- end}}
</svg>
`))

type pictureRow struct {
	Name   string
	TextY  int
	Bars   []pictureBar
	Labels []pictureLabel
}

type pictureBar struct {
	Class       string
	X, Y, Width int
}

type pictureLabel struct {
	X, Y int
	Text string
}

// decades are the powers of ten from least to what is not less than the longest time.
func decades(longest time.Duration) []time.Duration {
	marks := []time.Duration{least, 10 * least}
	for last := 10 * least; last < longest; marks = append(marks, last) {
		last *= 10
	}
	return marks
}

// round writes a power of ten.
func round(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	return fmt.Sprintf("%d ms", d/time.Millisecond)
}

// along is how far a time is along an axis of so many decades.
func along(d time.Duration, decades int) int {
	if d <= least {
		return 0
	}
	return int(math.Round(timesWidth * math.Log10(float64(d)/float64(least)) / float64(decades)))
}

// picture draws two bars for each system: its longest wait, the median run in full colour and the worst behind it, and its
// lost clients.
func picture(bars []bar) (string, error) {
	var longest time.Duration
	lost := 1
	for _, b := range bars {
		longest, lost = max(longest, b.wait, b.worst), max(lost, b.lost)
	}
	marks := decades(longest)
	var ticks []pictureLabel
	for _, mark := range marks {
		ticks = append(ticks, pictureLabel{X: barsLeft + along(mark, len(marks)-1), Text: round(mark)})
	}
	var rows []pictureRow
	for i, b := range bars {
		top := rowsTop + i*rowHeight
		class := "bar"
		if b.ours {
			class = "ours"
		}
		row := pictureRow{Name: b.name, TextY: top + 14}
		add := func(class string, x, width int, label string) {
			row.Bars = append(row.Bars, pictureBar{class, x, top, width})
			if label != "" {
				row.Labels = append(row.Labels, pictureLabel{x + width + 6, top + 14, label})
			}
		}
		if b.failed != "" && b.worst == 0 {
			row.Labels = []pictureLabel{{barsLeft + 6, top + 14, "not measured"}}
		} else {
			label := short(b.wait)
			if short(b.worst) != label {
				label += ", worst " + short(b.worst)
			}
			add(class+" worst", barsLeft, along(b.worst, len(marks)-1), label)
			add(class, barsLeft, along(b.wait, len(marks)-1), "")
			label = fmt.Sprint(b.lost)
			if b.failed != "" {
				label += ", then failed"
			}
			width := b.lost * lostWidth / lost
			if b.lost > 0 {
				width = max(1, width)
			}
			add(class, barsLeft+panelStep, width, label)
		}
		rows = append(rows, row)
	}
	bottom := rowsTop + len(bars)*rowHeight - 10
	var out strings.Builder
	err := pictureTemplate.Execute(&out, map[string]any{
		"Title": "Restarts under load", "Width": barsLeft + panelStep + lostWidth + 100, "Height": bottom + 10, "Bottom": bottom,
		"Panels": []map[string]any{
			{"X": barsLeft, "Title": "longest wait, logarithmic (pale: the worst run)"},
			{"X": barsLeft + panelStep, "Title": "clients lost, all runs"},
		},
		"Ticks": ticks, "Rows": rows,
	})
	return out.String(), err
}
