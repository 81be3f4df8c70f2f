package bench

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// report is everything that one run has measured.
type report struct {
	host []string // the machine, one fact a line
	took time.Duration
	// On a busy computer, no further run is begun that would not end before the deadline.
	deadline time.Time
	aims     []aim
	tables   []table
	bars     []bar
}

// aim is a figure with what was measured beside it.
type aim struct{ what, ratio, want, ours, than string }

type table struct {
	title, text string
	head        []string
	rows        [][]string
}

// bar is a system in the picture.
type bar struct {
	name        string
	ours        bool
	wait, worst time.Duration
	lost        int
	failed      string // why it has no figures, or not all
}

// command is what takes all the figures anew.
const command = "make bench"

// markdown is the report as a page, with the picture beside it.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark\n\nWritten by `%s`; every figure was taken in that one run, which took %s, on this machine:\n\n", command, r.took.Round(time.Second))
	for _, fact := range r.host {
		fmt.Fprintf(&b, "- %s\n", fact)
	}
	b.WriteString("\nWhere there are several values, the first is the median.\n\n")
	aims := table{title: "In one look", head: []string{"what", "ratio", "aim", "gateway", "beside it"}}
	for _, a := range r.aims {
		aims.rows = append(aims.rows, []string{a.what, a.ratio, a.want, a.ours, a.than})
	}
	aims.write(&b)
	b.WriteString("![Longest wait and lost clients in restarts under load](bench.svg)\n\n")
	for _, t := range r.tables {
		t.write(&b)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (t table) write(b *strings.Builder) {
	fmt.Fprintf(b, "## %s\n\n", t.title)
	if t.text != "" {
		fmt.Fprintf(b, "%s\n\n", t.text)
	}
	writeRow(b, t.head)
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(t.head)))
	for _, row := range t.rows {
		writeRow(b, row)
	}
	b.WriteByte('\n')
}

func writeRow(b *strings.Builder, cells []string) {
	b.WriteByte('|')
	for _, cell := range cells {
		fmt.Fprintf(b, " %s |", strings.NewReplacer("|", `\|`, "\n", " ").Replace(cell))
	}
	b.WriteByte('\n')
}

// write puts bench.md and bench.svg into a directory. It refuses a report that contains one of the secrets: what belongs to
// the computer it was taken on, such as its name.
func (r *report) write(directory string, secrets []string) error {
	picture, err := picture(r.bars)
	if err != nil {
		return err
	}
	page := r.markdown()
	for _, secret := range secrets {
		if secret != "" && strings.Contains(page+picture, secret) {
			return fmt.Errorf("the report contains %q, which is this computer's own", secret)
		}
	}
	return errors.Join(
		renameio.WriteFile(filepath.Join(directory, "bench.md"), []byte(page), 0o644),
		renameio.WriteFile(filepath.Join(directory, "bench.svg"), []byte(picture), 0o644),
	)
}

// hostPath is an absolute path of more than one part: of no use to a reader elsewhere.
var hostPath = regexp.MustCompile(`(/[\w.@+-]+){2,}/?`)

// reason is an error as a cell of a table: its first line, without paths.
func reason(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return hostPath.ReplaceAllStringFunc(line, filepath.Base)
}
