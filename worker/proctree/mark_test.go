package proctree

import "testing"

func TestMark(t *testing.T) {
	t.Parallel()
	for _, directory := range []string{"/run/gateway", "/run/a:b", "/run/a:1:2", ":", ""} {
		mark := Mark{Directory: directory, Launcher: Process{PID: 4711, Start: 1 << 60}}
		if got, ok := ParseMark(mark.String()); !ok || got != mark {
			t.Errorf("ParseMark(%q): %+v, %v", mark, got, ok)
		}
	}
	for _, mark := range []string{"", "/run", "/run:1", "1:2", "/run:one:2", "/run:1:two", "/run:1:-2", "/run:1:2:"} {
		if got, ok := ParseMark(mark); ok {
			t.Errorf("ParseMark(%q): %+v", mark, got)
		}
	}
}
