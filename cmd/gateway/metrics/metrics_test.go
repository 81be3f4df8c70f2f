package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/read"
)

// ready is a launcher that has told all that there is to tell.
func ready() Launcher {
	connections := 3
	return Launcher{Status: api.Status{
		Verdict: api.VerdictOK,
		Config:  api.Config{State: "applied"},
		Sockets: []api.Socket{
			{Address: "127.0.0.1:18789", Queued: 2, WaitingS: 0.25, Connections: &connections},
			{Address: "[::1]:18789"},
			{Address: "127.0.0.1:18789", Queued: 1, WaitingS: 1.5, Connections: &connections}, // SO_REUSEPORT
		},
		Worker: api.Worker{Generation: 12345678, ReadyAfterMS: 8100, Ends: []api.Ends{{Reason: "crash", Count: 2}, {Reason: "config"}}, StraysEnded: 7},
	}}
}

// judged has promtool judge a text.
func judged(t *testing.T, text []byte) {
	t.Helper()
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(string(text))
	if said, err := check.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("promtool check metrics: %v\n%s\nof\n%s", err, said, text)
	}
}

func samples(text []byte) (lines []string) {
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "gateway_verdict{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func want(t *testing.T, text []byte, lines ...string) {
	t.Helper()
	judged(t, text)
	if got := samples(text); !slices.Equal(got, lines) {
		t.Errorf("the samples are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

func TestText(t *testing.T) {
	want(t, Text([]Launcher{ready()}),
		"gateway_up 1", "gateway_generation 1.2345678e+07", `gateway_restarts_total{reason="crash"} 2`, `gateway_restarts_total{reason="config"} 0`,
		"gateway_ready_seconds 8.1", `gateway_queue_length{address="127.0.0.1:18789"} 2`, `gateway_queue_length{address="[::1]:18789"} 0`,
		`gateway_client_wait_seconds{address="127.0.0.1:18789"} 1.5`, `gateway_client_wait_seconds{address="[::1]:18789"} 0`,
		`gateway_connections{address="127.0.0.1:18789"} 3`, "gateway_strays_total 7", "gateway_config_rejected 0")
	// What is not known is not told.
	down := Launcher{Status: api.Status{Verdict: api.VerdictDown}}
	text := Text([]Launcher{down})
	want(t, text, "gateway_up 0")
	if !strings.Contains(string(text), `gateway_verdict{verdict="down"} 1`) || strings.Count(string(text), "} 1\n") != 1 {
		t.Errorf("the verdict of one that is down:\n%s", text)
	}
	// Several are told apart, by words that somebody else may have chosen. What that one has for a reason or an address makes no
	// series unless it is one, and each is there once.
	other := down
	other.User, other.Config.State, other.Sockets = "al\"i\\ce\nx 1", "applied", []api.Socket{
		{Address: "\x1b[31m\n\"}"}, {Address: "unix:/run/a\"b.sock"}, {Address: "[0::1]:1"}, {Address: "[::1]:01"}, {Address: "*:2"},
	}
	other.Worker.Ends = []api.Ends{{Reason: "x"}, {Reason: "x"}, {Reason: "crash"}, {Reason: "crash", Count: 9}}
	const user = `scope="user",user="al\"i\\ce\\nx 1"} 0`
	lines := []string{
		`gateway_up{scope="system"} 0`, strings.TrimSuffix(`gateway_up{`+user, "0") + "1", `gateway_generation{` + user,
		`gateway_restarts_total{reason="crash",` + user,
	}
	for _, family := range []string{"queue_length", "client_wait_seconds"} {
		for _, address := range []string{`unix:/run/a\"b.sock`, "[::1]:1", "*:2"} {
			lines = append(lines, `gateway_`+family+`{address="`+address+`",`+user)
		}
	}
	want(t, Text([]Launcher{down, other}), append(lines, `gateway_strays_total{`+user, `gateway_config_rejected{`+user)...)
	for port := range 2 * mostAddresses {
		other.Sockets = append(other.Sockets, api.Socket{Address: fmt.Sprintf("127.0.0.1:%d", 1000+port)})
	}
	if n := strings.Count(string(Text([]Launcher{down, other})), "gateway_queue_length{"); n != mostAddresses {
		t.Errorf("%d addresses of one launcher, want %d", n, mostAddresses)
	}
}

func TestUp(t *testing.T) {
	for verdict, want := range map[api.Verdict]bool{
		api.VerdictOK: true, api.VerdictWaiting: true, api.VerdictStarting: true, api.VerdictHung: true,
		api.VerdictDegraded: false, api.VerdictDown: false, api.VerdictOrphan: false,
	} {
		silent := Launcher{Status: api.Status{Verdict: verdict}}
		answers := Launcher{Status: api.Status{Verdict: verdict, Config: api.Config{State: "rejected"}}}
		if silent.Up() != want || !answers.Up() {
			t.Errorf("%s: up is %v where the launcher does not answer, %v where it does", verdict, silent.Up(), answers.Up())
		}
	}
}

func TestWriteFile(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "gateway.prom")
	elsewhere := filepath.Join(folder, "elsewhere")
	if err := errors.Join(os.WriteFile(elsewhere, []byte("mine"), 0o600), os.Symlink(elsewhere, path)); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"gateway_up 1\n", "gateway_up 0\n"} {
		if err := WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o644 {
			t.Errorf("the file is %v, %v", info.Mode(), err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("it holds %q, %v", got, err)
		}
	}
	if got, err := os.ReadFile(elsewhere); err != nil || string(got) != "mine" {
		t.Errorf("where the link led is %q, %v", got, err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
	for _, name := range []string{"gateway.txt", "gateway", ".prom"} {
		if err := WriteFile(filepath.Join(folder, name), nil); !errors.Is(err, ErrExtension) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := WriteFile(filepath.Join(folder, "gone", "gateway.prom"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := WriteFile(filepath.Join(elsewhere, "gateway.prom"), nil); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// TestWriteFileThroughLinks: a link is followed where nobody else can choose it.
func TestWriteFileThroughLinks(t *testing.T) {
	folder := t.TempDir()
	target, open := filepath.Join(folder, "target"), filepath.Join(folder, "open")
	if err := errors.Join(os.Mkdir(target, 0o755), os.Mkdir(open, 0o700), os.Chmod(open, 0o777),
		os.Symlink(target, filepath.Join(folder, "own")), os.Symlink(target, filepath.Join(open, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(folder, "own", "gateway.prom"), nil); err != nil {
		t.Errorf("by a link of one's own: %v", err)
	}
	if err := WriteFile(filepath.Join(open, "gateway.prom"), nil); err != nil {
		t.Errorf("in a directory that others can write to: %v", err)
	}
	if err := WriteFile(filepath.Join(open, "link", "gateway.prom"), nil); !errors.Is(err, read.ErrLink) {
		t.Errorf("by a link that others can make: %v", err)
	}
}

// TestWriteFileOver: what can lie where the file is to be.
func TestWriteFileOver(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	at := func(name string) string { return filepath.Join(directory, name) }
	other := at("other.txt")
	if err := errors.Join(
		os.WriteFile(other, []byte("mine"), 0o600), os.WriteFile(at("file.prom"), []byte("longer than what comes"), 0o600),
		os.Symlink(other, at("link.prom")), os.Symlink("/dev/full", at("device.prom")), os.Symlink("nowhere", at("dangling.prom")),
		unix.Mkfifo(at("fifo.prom"), 0o600), os.Mkdir(at("directory.prom"), 0o700),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new.prom", "file.prom", "link.prom", "device.prom", "dangling.prom", "fifo.prom"} {
		if err := WriteFile(at(name), []byte("up 1\n")); err != nil {
			t.Error(err)
			continue
		}
		info, err := os.Lstat(at(name))
		content, readErr := os.ReadFile(at(name))
		if err := errors.Join(err, readErr); err != nil || info.Mode() != 0o644 || string(content) != "up 1\n" {
			t.Errorf("%s: %v, %v, %q", name, err, info.Mode(), content)
		}
	}
	for name, want := range map[string]string{
		"directory.prom": "directory.prom is a directory: name a file", "missing/x.prom": "no such file or directory: make ",
		"other.txt/x.prom": "not a directory", "file.txt": ".prom", ".prom": ".prom",
	} {
		if err := WriteFile(at(name), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if content, err := os.ReadFile(other); string(content) != "mine" {
		t.Errorf("what a link leads to: %q, %v", content, err)
	}
	if left, err := filepath.Glob(at(".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
