package handoff

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/passed"
)

// TestResume: what a worker reports is read by the next program from where this one has stopped, in the midst of a line too.
func TestResume(t *testing.T) {
	t.Parallel()
	lines := []string{`{"event":"listening","address":"127.0.0.1:1"}`, `{"event":"listening","address":"127.0.0.1:2"}`, `{"event":"listening","address":"127.0.0.1:3"}`}
	for _, cut := range []int{0, 1, 20, len(lines[1])} {
		for _, kind := range []Kind{Preload, Auto} {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			p := &preload{reports: newReports(reader)}
			var h Handoff = p
			if kind == Auto {
				h = whichever{p}
			}
			tell := func(text string) {
				t.Helper()
				if _, err := writer.WriteString(text); err != nil {
					t.Fatal(err)
				}
			}
			told := make(chan string, 10)
			read := func(h Handoff) {
				for {
					report, err := h.Reports().Next()
					if err != nil {
						return
					}
					told <- report.Address.String()
				}
			}
			hears := func(want string) {
				t.Helper()
				select {
				case got := <-told:
					if got != want {
						t.Fatalf("%s, cut at %d: told %q, want %q", kind, cut, got, want)
					}
				case <-time.After(30 * time.Second):
					t.Fatalf("%s, cut at %d: %q is not told", kind, cut, want)
				}
			}
			go read(h)
			tell(lines[0] + "\n" + lines[1][:cut])
			hears("127.0.0.1:1")
			if _, err := h.Suspend(t.Context()); err != nil {
				t.Fatal(err)
			}
			tell(lines[1][cut:] + "\n" + lines[2][:cut])
			saved, err := h.Save(new(passed.Files))
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(saved)
			var again Saved
			if err == nil {
				err = json.Unmarshal(text, &again)
			}
			if err == nil {
				again.Pipe.FD, err = unix.Dup(again.Pipe.FD) // which is not closed with the program, as one that was passed
			}
			if err != nil || again.Kind != kind {
				t.Fatalf("%s: %v", text, err)
			}
			next, err := Resume(again, nil, nil)
			if err != nil || next.Kind() != kind {
				t.Fatalf("%v, %v", next, err)
			}
			go read(next)
			hears("127.0.0.1:2")
			tell(lines[2][cut:] + "\n")
			hears("127.0.0.1:3")
			if err := next.Close(); err != nil {
				t.Error(err)
			}
			_, _ = writer.Close(), reader.Close()
		}
	}
}

// TestResumeNot: what cannot have been passed on is not taken up.
func TestResumeNot(t *testing.T) {
	t.Parallel()
	held := []Socket{{Address: netaddr.MustParse("127.0.0.1:1")}}
	for _, c := range []struct {
		saved Saved
		want  string
	}{
		{Saved{Kind: "another"}, "cannot be taken up"},
		{Saved{Kind: Preload}, "without its reports"},
		{Saved{Kind: Preload, Pipe: &SavedPipe{FD: 1 << 20}}, "not passed as reports"},
		{Saved{Kind: Intercept}, "without its filter"},
	} {
		if _, err := Resume(c.saved, held, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.saved, err, c.want)
		}
	}
	if h, err := Resume(Saved{Kind: ListenFDs}, held, nil); err != nil || h.Kind() != ListenFDs {
		t.Errorf("%v, %v", h, err)
	}
}
