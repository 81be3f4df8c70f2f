package bench

import (
	"fmt"
	"strings"
	"text/template"
)

// The picture's measures, in pixels.
const (
	barsLeft   = 210 // where the bars of the first panel begin
	panelWidth = 200 // of the longest bar
	panelStep  = 350 // from the first panel's bars to the second's
	rowHeight  = 40
	rowsTop    = 70
)

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
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .bar { fill: #4493f8 }
    .ours { fill: #3fb950 }
  }
</style>
<text class="title" x="10" y="22">{{.Title | html}}</text>
{{- range .Panels}}
<text class="title" x="{{.X}}" y="52">{{.Title | html}}</text>
<line class="axis" x1="{{.X}}" y1="62" x2="{{.X}}" y2="{{$.Bottom}}"/>
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

// picture draws two bars for each system: its longest wait, the median run in full colour and the worst behind it, and its
// lost clients. The first system is ours.
func picture(bars []bar) (string, error) {
	var worst, lost int64 = 1, 1
	for _, b := range bars {
		worst, lost = max(worst, int64(b.worst)), max(lost, int64(b.lost))
	}
	var rows []pictureRow
	for i, b := range bars {
		top := rowsTop + i*rowHeight
		class := "bar"
		if i == 0 {
			class = "ours"
		}
		row := pictureRow{Name: b.name, TextY: top + 14}
		add := func(class string, panel int, value, full int64, label string) {
			width := int(value * panelWidth / full)
			if value > 0 {
				width = max(1, width)
			}
			x := barsLeft + panel*panelStep
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
			add(class+" worst", 0, int64(b.worst), worst, label)
			add(class, 0, int64(b.wait), worst, "")
			label = fmt.Sprint(b.lost)
			if b.failed != "" {
				label += ", then failed"
			}
			add(class, 1, int64(b.lost), lost, label)
		}
		rows = append(rows, row)
	}
	bottom := rowsTop + len(bars)*rowHeight - 10
	var out strings.Builder
	err := pictureTemplate.Execute(&out, map[string]any{
		"Title": "Restarts under load", "Width": barsLeft + panelStep + panelWidth + 100, "Height": bottom + 10, "Bottom": bottom,
		"Panels": []map[string]any{
			{"X": barsLeft, "Title": "longest wait (pale: the worst run)"},
			{"X": barsLeft + panelStep, "Title": "clients lost, all runs"},
		},
		"Rows": rows,
	})
	return out.String(), err
}
