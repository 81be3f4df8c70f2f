package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What an answer of a stranger may cost: time, of which the tools take 2 s and a busy machine more, and memory at its most.
const (
	hostileTime = 15 * time.Second
	hostileMiB  = 100
)

// hostile are answers that no launcher gives, from the first byte on. Each goes on until nobody reads it any more.
var hostile = map[string]func(w io.Writer){
	"silence": func(io.Writer) {},
	"trickle": func(w io.Writer) {
		fmt.Fprint(w, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		for range time.Tick(100 * time.Millisecond) {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
		}
	},
	"a header that does not end": func(w io.Writer) { flood(w, "HTTP/1.1 200 OK\r\nX: ", "x") },
	"headers that do not end":    func(w io.Writer) { flood(w, "HTTP/1.1 200 OK\r\n", "X: x\r\n") },
	"always more to come":        func(w io.Writer) { flood(w, "", "HTTP/1.1 103 Early Hints\r\n\r\n") },
	"elsewhere": func(w io.Writer) {
		fmt.Fprint(w, "HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
	},
	"an answer that does not end": func(w io.Writer) { flood(w, "HTTP/1.1 200 OK\r\n\r\n", " ") },
	"an error that does not end":  func(w io.Writer) { flood(w, "HTTP/1.1 409 No\r\n\r\n", `{"error":"`+strings.Repeat("x", 1000)) },
	"a string that does not end":  func(w io.Writer) { flood(w, "HTTP/1.1 200 OK\r\n\r\n"+`{"version":"`, "x") },
	"a long string":               func(w io.Writer) { whole(w, `{"version":"`+strings.Repeat("x", 1<<20-100)+`"}`) },
	"deep":                        func(w io.Writer) { whole(w, `{"version":`+strings.Repeat("[", 1<<19)+strings.Repeat("]", 1<<19)+"}") },
	"many sockets": func(w io.Writer) {
		whole(w, `{"sockets":[`+strings.Repeat("{},", 300_000)+"{}]}")
	},
	"sockets as many as fit": func(w io.Writer) {
		var b strings.Builder
		for port := range 4000 {
			fmt.Fprintf(&b, `{"address":"127.0.0.1:%d"},`, port+1)
		}
		whole(w, `{"sockets":[`+b.String()+"{}]}")
	},
	"many generations": func(w io.Writer) { whole(w, `{"generations":[`+strings.Repeat("{},", 300_000)+"{}]}") },
	"another language": func(w io.Writer) { fmt.Fprint(w, "SSH-2.0-OpenSSH_9.2\r\n") },
}

// flood writes a beginning, and then the same again and again.
func flood(w io.Writer, begin, again string) {
	_, err := io.WriteString(w, begin)
	for again = strings.Repeat(again, 1+1<<16/len(again)); err == nil; {
		_, err = io.WriteString(w, again)
	}
}

// whole writes an answer that has an end.
func whole(w io.Writer, body string) {
	fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s\n", len(body)+1, body)
}

// TestHostileLauncher: whoever answers on a control socket, of the same user or of one whom root asks, can make no command
// hang, nor take the machine's memory: not when it is asked for the status, and not after a status that is a good one.
func TestHostileLauncher(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gateway")
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("listen: [\"127.0.0.1:1\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := []string{
		"status --user", "status --user --json", "metrics --user", "doctor --user", "status --user --history", "status --user --watch --json",
		"restart --user", "config check --user " + file,
	}
	// Most of them wait, most of the time.
	var running sync.WaitGroup
	slots := make(chan struct{}, 12)
	for name, answer := range hostile {
		for _, after := range []bool{false, true} {
			// A socket's path is short.
			runtime, err := os.MkdirTemp("", "hostile")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(runtime)
			serveHostile(t, filepath.Join(runtime, "openclaw-gateway"), after, answer)
			for _, command := range commands {
				switch {
				case after && slices.Contains(commands[:4], command): // they ask for nothing else
				case after && name == "silence" && command == "restart --user": // which takes the time that the worker needs
				default:
					running.Go(func() {
						slots <- struct{}{}
						defer func() { <-slots }()
						if wrong := runHostile(t.Context(), runtime, program, strings.Fields(command)); wrong != "" {
							t.Errorf("%s, after a good status %t: gateway %s %s", name, after, command, wrong)
						}
					})
				}
			}
		}
	}
	running.Wait()
}

// runHostile says what is wrong with how a command takes it.
func runHostile(ctx context.Context, runtime, program string, arguments []string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*hostileTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtime, "XDG_CONFIG_HOME="+runtime)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	if slices.Contains(arguments, "--watch") {
		// It ends when it is told to.
		time.AfterFunc(5*time.Second/2, func() { _ = cmd.Process.Signal(unix.SIGINT) })
	}
	_ = cmd.Wait()
	took, mebibytes := time.Since(began), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10
	// A process begins with the memory of whoever started it, which counts as its own (exec_mmap in fs/exec.c).
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return err.Error()
	}
	if took > hostileTime || mebibytes > max(hostileMiB, own.Maxrss>>10) || said.Len() > 1<<20 || strings.Contains(said.String(), "panic") {
		return fmt.Sprintf("took %s and %d MiB, and said %d bytes: %.1000s", took, mebibytes, said.Len(), said.String())
	}
	return ""
}

// serveHostile answers on a control socket, with a good status or not, and then as it is told.
func serveHostile(t *testing.T, directory string, status bool, answer func(io.Writer)) {
	t.Helper()
	serveAnswers(t, directory, func(w io.Writer, path string) {
		if status && path == "/status" {
			whole(w, `{"version":"1.0","sockets":[{"address":"127.0.0.1:1","inode":1}],"worker":{"state":"ready"}}`)
			return
		}
		answer(w)
	})
}

// serveAnswers answers on a control socket, with whatever is written.
func serveAnswers(t *testing.T, directory string, answer func(w io.Writer, path string)) {
	t.Helper()
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(directory, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				answer(conn, request.URL.Path)
				_, _ = io.Copy(io.Discard, conn) // until whoever asked has had enough
			}()
		}
	}()
}
