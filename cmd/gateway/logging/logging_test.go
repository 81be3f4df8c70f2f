package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/test/fixtures"
)

// TestJournalEntry: each attribute is a field of its own and a word of the message.
func TestJournalEntry(t *testing.T) {
	h := &journalHandler{level: slog.LevelInfo, fallback: slog.DiscardHandler}
	with := h.WithAttrs([]slog.Attr{slog.Int("generation", 3)}).WithGroup("ignored").(*journalHandler)
	record := slog.NewRecord(time.Now(), slog.LevelWarn, "worker ended", 0)
	record.Add("worker_pid", 812, "exit", "exit code 1", "pause", 2*time.Second, "error", errors.New(`say "hi"`), "empty", "",
		"message", "READY=1", "_pid", 1, "by-whom", "x", "priority", "high")
	message, fields := with.entry(record)
	want := map[string]string{
		"SYSLOG_IDENTIFIER": "gateway", "GENERATION": "3", "WORKER_PID": "812", "EXIT": "exit code 1", "PAUSE": "2s",
		"ERROR": `say "hi"`, "EMPTY": "", "BY_WHOM": "x",
		// The journal's own names would be overwritten, or the entry dropped.
		"GATEWAY_MESSAGE": "READY=1", "GATEWAY_PRIORITY": "high", "GATEWAY_PID": "1",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	const text = `worker ended generation=3 worker_pid=812 exit="exit code 1" pause=2s error="say \"hi\"" message="READY=1" _pid=1 by-whom=x priority=high`
	if message != text {
		t.Errorf("the message is\n%s, want\n%s", message, text)
	}
	for group, want := range map[string]map[string]string{
		"/system.slice/openclaw-gateway.socket":                                           {"OBJECT_SYSTEMD_UNIT": "openclaw-gateway.socket"},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/openclaw-gateway.socket": {"OBJECT_SYSTEMD_USER_UNIT": "openclaw-gateway.socket"},
		"/": {},
	} {
		want["SYSLOG_IDENTIFIER"] = "gateway"
		message, fields := (&journalHandler{unit: unitFields(group)}).entry(slog.Record{Message: "ended"})
		if diff := cmp.Diff(want, fields); diff != "" || message != "ended" {
			t.Errorf("in %s: the message is %q, fields (-want +got):\n%s", group, message, diff)
		}
	}
	if len(h.attrs) != 0 {
		t.Errorf("the parent has got attributes: %v", h.attrs)
	}
	for level, want := range map[slog.Level]journal.Priority{
		slog.LevelDebug: journal.PriDebug, slog.LevelInfo: journal.PriInfo, slog.LevelWarn: journal.PriWarning,
		slog.LevelError: journal.PriErr, slog.LevelError + 4: journal.PriErr, slog.LevelInfo + 1: journal.PriInfo,
	} {
		if got := priority(level); got != want {
			t.Errorf("%s has priority %d, want %d", level, got, want)
		}
	}
	if h.Enabled(t.Context(), slog.LevelDebug) || !h.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the level is not kept")
	}
}

// TestLogEvil: what is logged is escaped in each of the forms, in the message too, and JSON is JSON.
func TestLogEvil(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	const evil = "no\x1b]0;x\x07\x7f\u009b\u202e\u2028"
	for _, format := range []string{"text", "json", "terminal"} {
		t.Run(format, func(t *testing.T) {
			master, slave := fixtures.Terminal(t)
			out := slave
			if format != "terminal" {
				var err error
				if master, out, err = os.Pipe(); err != nil {
					t.Fatal(err)
				}
				defer master.Close()
				defer out.Close()
			}
			log, _ := New(strings.Replace(format, "terminal", "text", 1), slog.LevelInfo, out)
			log.With("with", evil).Warn(evil, "text", evil, "error", errors.New(evil), "list", []string{evil}, "bytes", []byte(evil))
			buffer := make([]byte, 10_000)
			n, err := master.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimRight(string(buffer[:n]), "\r\n")
			if format == "json" && !json.Valid(buffer[:n]) {
				t.Errorf("no JSON: %s", text)
			}
			// The colours of tint's, which end in m.
			text = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(text, "")
			if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Count(text, "]0;x") < 4 {
				t.Errorf("it logs %q", text)
			}
		})
	}
	message, fields := (&journalHandler{}).entry(func() slog.Record {
		record := slog.NewRecord(time.Now(), slog.LevelWarn, evil, 0)
		record.Add("text", evil, "error", errors.New("a\n"+evil))
		return record
	}())
	const shown = `no\x1b]0;x\a\x7f\u009b\u202e\u2028`
	if want := shown + ` text="` + shown + `" error="a\n` + shown + `"`; message != want {
		t.Errorf("the journal has %s, want %s", message, want)
	}
	if fields["TEXT"] != shown || fields["ERROR"] != "a\n"+shown {
		t.Errorf("the journal has the fields %q", fields)
	}
}

// TestLogFormats: text has colours on a terminal only, and NO_COLOR takes them away.
func TestLogFormats(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	file := func() (*os.File, func() string) {
		f, err := os.Create(t.TempDir() + "/log")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, func() string {
			content, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
	}
	tests := []struct {
		name, format, noColor string
		terminal              bool
		want, not             string
	}{
		{"a file", "text", "", false, "level=WARN msg=careful generation=3", "\x1b"},
		{"a terminal", "text", "", true, "\x1b[93mWRN", "level="},
		{"a terminal without colours", "text", "1", true, "level=WARN msg=careful generation=3", "\x1b"},
		{"JSON on a terminal", "json", "", true, `"level":"WARN","msg":"careful","generation":3`, "\x1b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", test.noColor)
			out, said := file()
			if test.terminal {
				out, said = terminal(t)
			}
			log, flush := New(test.format, slog.LevelInfo, out)
			log.Warn("careful", "generation", 3)
			flush()
			if got := said(); !strings.Contains(got, test.want) || strings.Contains(got, test.not) {
				t.Errorf("%q lacks %q or has %q", got, test.want, test.not)
			}
		})
	}
}

// terminal makes a pseudoterminal (pty(7)); said returns what was written to it,
// to the end of a line.
func terminal(t *testing.T) (out *os.File, said func() string) {
	t.Helper()
	master, slave := fixtures.Terminal(t)
	return slave, func() string {
		var all bytes.Buffer
		buffer := make([]byte, 1024)
		for !bytes.HasSuffix(all.Bytes(), []byte("\n")) {
			n, err := master.Read(buffer)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			all.Write(buffer[:n])
		}
		return all.String()
	}
}
