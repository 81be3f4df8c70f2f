package pages

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

var (
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	notIn   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func read(t *testing.T, page string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func headings(text string) (all []string) {
	for _, match := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		all = append(all, match[1])
	}
	return all
}

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	return strings.ReplaceAll(notIn.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// TestLinks follows each link between the pages, to its heading.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	more, errToo := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil || errToo != nil {
		t.Fatal(err, errToo)
	}
	for _, path := range append(pages, more...) {
		page, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target, part, _ := strings.Cut(match[1], "#")
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s has a link to %s: %v", page, match[1], err)
				continue
			}
			if part != "" && !slices.ContainsFunc(headings(read(t, to)), func(h string) bool { return anchor(h) == part }) {
				t.Errorf("%s has a link to %s, and %s has no such heading", page, match[1], to)
			}
		}
	}
}

// TestReadme: what somebody needs at 2 a.m. comes first, and the page stays short; all others can be reached from it.
func TestReadme(t *testing.T) {
	text := read(t, "README.md")
	if lines := strings.Count(text, "\n"); lines >= 200 {
		t.Errorf("README.md has %d lines, want fewer than 200: the rest goes into docs", lines)
	}
	want := []string{
		"gateway: a launcher that never loses the port", "The port is taken: have it back now", "Is this your problem?", "Get it", "`gateway adopt`",
		"Every day", "Going back", "Troubleshooting", "More",
	}
	if got := headings(text); !slices.Equal(got, want) {
		t.Errorf("README.md has the headings %q, want %q", got, want)
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, path := range pages {
		if page := "docs/" + filepath.Base(path); !strings.Contains(text, "("+page+")") {
			t.Errorf("README.md has no link to %s", page)
		}
	}
}
