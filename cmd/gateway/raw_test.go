package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/doctor"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/units"

	"golang.org/x/sys/unix"
)

// evil is a name as anybody can choose one: it would set the title of a terminal, turn the direction of writing, and end a line.
const evil = "no\x1b]0;x\x07\x7f\u009b31m\u202e\u2028\U000e0041\xff\ttab\r"

// TestNothingRaw: nothing that somebody else can choose reaches a terminal as it is, whatever command prints it and however.
func TestNothingRaw(t *testing.T) {
	folder := t.TempDir()
	program := filepath.Join(folder, "gateway")
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	runtime, err := os.MkdirTemp("", "raw") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(runtime)
	address := heldByEvil(t)
	answers := evilAnswers(t, address)
	serveAnswers(t, filepath.Join(runtime, "openclaw-gateway"), func(w io.Writer, path string) {
		if answer, ok := answers[path]; ok {
			whole(w, answer)
			return
		}
		said := answers["error"]
		if path == "/reload" {
			said = "" // then the head says what is wrong
		}
		fmt.Fprintf(w, "HTTP/1.1 409 %s\r\nContent-Length: %d\r\n\r\n%s", strings.ReplaceAll(evil, "\r", ""), len(said), said)
	})
	evilFolder := filepath.Join(folder, evil)
	if err := os.Mkdir(evilFolder, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		path := filepath.Join(evilFolder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	listen := "listen: ['" + address + "']\n"
	good := write("good.yaml", listen+`worker: {command: ["a\e[2J", "\u202e"], environment: ["A=\u202e"]}`+"\n")
	wrong := write("wrong.yaml", "\"\\e[2J\\u202e\": 1\nworker: {comand\u202e: \x7f}\n")
	broken := write("broken.yaml", "worker: [\u2028\n\x1b[2J\n")
	unset := write("unset.yaml", listen+`worker: {environment_file: "/none\e[2J\u202e"}`+"\n")

	for _, arguments := range [][]string{
		{"status", "--user"},
		{"status", "--user", "--json"},
		{"status", "--user", "--history"},
		{"status", "--user", "--history", "--json"},
		{"status", "--user", "--watch"},
		{"status", "--user", "--watch", "--json"},
		{"restart", "--user"},
		{"reload", "--user"},
		{"doctor", "--user"},
		{"doctor", "--user", "--json"},
		{"reclaim", "--dry-run", address},
		{"reclaim", evil},
		{"config", "check", "--user", good},
		{"config", "check", "--user", wrong},
		{"config", "check", broken},
		{"config", "check", filepath.Join(evilFolder, "none")},
		{"config", "show", good},
		{"config", "show", wrong},
		{"config", "show", broken},
		{"config", "show", unset},
		{"run", "--config", wrong},
		{"run", "--config", good},
		{"logs", "--user", evil},
		{"install", "--user", "--config", wrong, "--root", filepath.Join(folder, "root"+evil)},
		{"install", "--user", "--config", good, "--root", filepath.Join(folder, "root"+evil), "--dry-run"},
		{"install", "--system", "--run-as", evil, "--root", filepath.Join(folder, "root"+evil)},
		{evil},
		{"status", "--" + evil},
		{"status", evil},
	} {
		t.Run(strings.Join(arguments[:min(2, len(arguments))], " "), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, arguments...)
			// The variables are the caller's own, and evil even so.
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtime, "XDG_CONFIG_HOME="+evilFolder, "GATEWAY_LOG_LEVEL="+strings.ReplaceAll(evil, "\x00", ""))
			if arguments[0] == "run" || arguments[0] == "config" && arguments[len(arguments)-1] == good {
				cmd.Env = append(cmd.Env, "GATEWAY_LOG_LEVEL=debug", "RUNTIME_DIRECTORY="+filepath.Join(folder, "run"))
			}
			var out, err bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &err
			if strings.Contains(strings.Join(arguments, " "), "--watch") {
				first := make(chan struct{}, 1)
				cmd.Stdout = &untilWritten{all: &out, written: first}
				go func() {
					<-first
					_ = cmd.Process.Signal(unix.SIGINT)
				}()
			}
			_ = cmd.Run()
			all := out.String() + err.String()
			if !isPrintable(all) {
				t.Errorf("gateway %q printed\n%q", arguments, all)
			}
			if strings.Contains(strings.Join(arguments, " "), "--json") && !json.Valid(out.Bytes()) && !strings.Contains(strings.Join(arguments, " "), "--watch") {
				t.Errorf("gateway %q printed no JSON:\n%s", arguments, &out)
			}
			t.Logf("gateway %q:\n%s", arguments, all)
		})
	}
}

// untilWritten says when something has been written.
type untilWritten struct {
	all     *bytes.Buffer
	written chan struct{}
}

func (w *untilWritten) Write(text []byte) (int, error) {
	select {
	case w.written <- struct{}{}:
	default:
	}
	return w.all.Write(text)
}

// heldByEvil starts a process with evil in its name and its arguments that listens on the address.
func heldByEvil(t *testing.T) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	file, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	content, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), evil[:12])
	if err := os.WriteFile(name, content, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name)
	cmd.Args, cmd.ExtraFiles = []string{evil}, []*os.File{file}
	if _, err := cmd.StdinPipe(); err != nil { // which cat reads
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return socket.Addr().String()
}

// evilAnswers are those of a launcher in each of whose texts there is something evil.
func evilAnswers(t testing.TB, address string) map[string]string {
	t.Helper()
	text, err := json.Marshal(strings.ToValidUTF8(evil, "") + "\nverdict: ok\f\v")
	if err != nil {
		t.Fatal(err)
	}
	fill := func(answer string) string { return strings.ReplaceAll(answer, "EVIL", string(text)) }
	status := fill(`{"version":EVIL,"verdict":EVIL,"problems":[EVIL],"notes":[EVIL],"unit":{"name":EVIL,"scope":EVIL,"active_state":EVIL},
			"launcher":{"since":"2026-01-02T03:04:05Z","holder":EVIL},"sockets":[{"address":EVIL},{"address":"` + address + `"}],
			"worker":{"state":EVIL,"pid":1,"generation":3,"since":"2026-01-02T03:04:05Z","handoff":EVIL,"next_start":"2026-01-02T03:04:05Z",
				"last_exit":{"generation":2,"signal":EVIL,"reason":EVIL,"at":"2026-01-02T03:04:05Z","detail":EVIL}},
			"config":{"path":EVIL,"state":EVIL,"error":EVIL}}`)
	return map[string]string{
		"/status": status, "/watch": strings.ReplaceAll(status, "\n", ""),
		"/history": fill(`{"scope":EVIL,"notes":[EVIL],"generations":[{"generation":1,"state":EVIL,"signal":EVIL,"reason":EVIL,"detail":EVIL},{"state":EVIL,
			"ended":"2026-01-02T03:04:05Z","reason":EVIL}]}`),
		"/check": fill(`{"rejected":"","changes":[{"key":EVIL,"from":EVIL,"to":EVIL,"effect":EVIL}],"outcome":EVIL,"in_use":EVIL}`),
		"error":  fill(`{"error":EVIL}`),
	}
}

// FuzzAnswerShown: whatever a launcher answers, nothing panics that shows it, and what comes out is printable and JSON is JSON.
func FuzzAnswerShown(f *testing.F) {
	for _, answer := range evilAnswers(f, "127.0.0.1:1") {
		f.Add([]byte(answer))
	}
	f.Add([]byte(`{"worker":{"since":"9999-12-31T23:59:59-23:59","ready_after_ms":-1},"sockets":[{"connections":-5}]}`))
	f.Add([]byte(`{"generations":[{"lived_ms":-9223372036854775808,"ready_after_ms":9223372036854775807,"strays":-1}]}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		var s api.Status
		var h api.History
		var c api.CheckReply
		if json.Unmarshal(answer, &s) != nil && json.Unmarshal(answer, &h) != nil && json.Unmarshal(answer, &c) != nil {
			return
		}
		for i := range s.Sockets {
			s.Sockets[i].Holders = nil // which the kernel tells
		}
		views := []status.View{{Status: s}}
		report := doctor.NewReport(&gather.Facts{Scopes: []gather.Scope{{Name: units.User, Launcher: &s, Answer: gather.Answered}}}, doctor.About{})
		for name, show := range map[string]func(io.Writer) error{
			"status":      func(w io.Writer) error { return status.Print(w, views, status.Format{Full: true}) },
			"status JSON": func(w io.Writer) error { return status.Print(w, views, status.Format{JSON: true}) },
			"history":     func(w io.Writer) error { return status.WriteHistory(w, []api.History{h, h}, true, status.Format{}) },
			"history JSON": func(w io.Writer) error {
				return status.WriteHistory(w, []api.History{h}, false, status.Format{JSON: true})
			},
			"check": func(w io.Writer) error { return status.WriteCheck(w, c, client.Target{}) },
			"doctor": func(w io.Writer) error {
				_, err := io.WriteString(w, report.Text(true, 80))
				return err
			},
			"doctor JSON": func(w io.Writer) error { return say.JSON(w, report, "  ") },
		} {
			var out bytes.Buffer
			if err := show(say.NewWriter(&out)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			// The colours are our own.
			text := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(out.String(), "")
			if !isPrintable(text) || strings.HasSuffix(name, "JSON") && !json.Valid(out.Bytes()) {
				t.Errorf("%s shows %q", name, text)
			}
		}
	})
}

// isPrintable reports whether a text may be shown on a terminal.
func isPrintable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
}
