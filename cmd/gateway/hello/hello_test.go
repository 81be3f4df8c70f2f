package hello

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the server when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv("HELLO_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	// Only the child knows its pid before exec; the launcher uses a shim for this.
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bound is how long a test waits for anything.
const bound = 20 * time.Second

// child is a hello server in a process of its own.
type child struct {
	command   *exec.Cmd
	output    strings.Builder
	exited    chan error
	addresses []string
	listeners []*net.TCPListener // the holder's
}

// start runs a child on two sockets and waits until it says that it is ready.
func start(t *testing.T) *child {
	t.Helper()
	c := &child{command: exec.Command(os.Args[0]), exited: make(chan error, 1)}
	for range 2 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		tcp := listener.(*net.TCPListener)
		file, err := tcp.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		c.listeners = append(c.listeners, tcp)
		c.addresses = append(c.addresses, listener.Addr().String())
		c.command.ExtraFiles = append(c.command.ExtraFiles, file)
	}
	notify := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	c.command.Env = append(os.Environ(), "HELLO_TEST_CHILD=1", "LISTEN_FDS=2", "NOTIFY_SOCKET="+notify,
		"GATEWAY_GENERATION=17", "GATEWAY_CONFIG=/srv/<b>.yaml")
	c.command.Stdout, c.command.Stderr = &c.output, &c.output
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { c.exited <- c.command.Wait() }()
	t.Cleanup(func() { _ = c.command.Process.Kill() }) // by its pid, and nobody's once it was waited for

	message := make([]byte, 64)
	socket.SetReadDeadline(time.Now().Add(bound))
	n, err := socket.Read(message)
	if err != nil || string(message[:n]) != "READY=1" {
		_ = c.command.Process.Kill()
		<-c.exited
		t.Fatalf("notified %q, %v; the child said: %s", message[:n], err, c.output.String())
	}
	return c
}

// stop sends SIGTERM; wait says how the child ended.
func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func (c *child) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-c.exited:
		if err != nil {
			t.Errorf("the child ended with %v and said: %s", err, c.output.String())
		}
	case <-time.After(bound):
		t.Fatalf("the child runs %s after SIGTERM", bound)
	}
}

func TestPages(t *testing.T) {
	c := start(t)
	tests := []struct {
		method, path string
		status       int
		contentType  string
		want         []string
	}{
		{"GET", "/healthz", 200, "application/json", []string{`{"ok":true,"status":"live"}`}},
		{"GET", "/startupz", 200, "application/json", []string{`{"status":"started"}`}},
		{"GET", "/", 200, "text/html; charset=utf-8", []string{
			"<dd>17</dd>", fmt.Sprintf("<dd>%d</dd>", c.command.Process.Pid), "<code>/srv/&lt;b&gt;.yaml</code>",
			"worker:", "OPENCLAW_SUPERVISOR_MODE=external", "OPENCLAW_SERVICE_REPAIR_POLICY=external", "OPENCLAW_GATEWAY_PORT=18789", "path: /startupz",
		}},
		{"HEAD", "/", 200, "text/html; charset=utf-8", nil},
		{"GET", "/index.html", 404, "text/plain; charset=utf-8", []string{"404"}},
		{"POST", "/other", 404, "text/plain; charset=utf-8", []string{"404"}},
	}
	client := &http.Client{Timeout: bound}
	defer client.CloseIdleConnections()
	for _, test := range tests {
		for _, address := range c.addresses {
			t.Run(test.method+" "+test.path, func(t *testing.T) {
				request, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+address+test.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.contentType {
					t.Errorf("status %d, %q, want %d, %q", response.StatusCode, response.Header.Get("Content-Type"),
						test.status, test.contentType)
				}
				for _, want := range test.want {
					if !strings.Contains(string(body), want) {
						t.Errorf("%q is not in:\n%s", want, body)
					}
				}
			})
		}
	}
	c.stop(t)
	c.wait(t)
}

func TestPageLoadsNothingFromElsewhere(t *testing.T) {
	for _, attribute := range []string{"src=", "url(", "@import", "<script", "http://", "https://"} {
		if strings.Contains(page, attribute) {
			t.Errorf("page.html has %s", attribute)
		}
	}
}

func TestStop(t *testing.T) {
	c := start(t)
	idle, err := net.Dial("tcp", c.addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	idle.SetDeadline(time.Now().Add(bound))
	reader := bufio.NewReader(idle)
	if _, err := io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	c.stop(t)
	if _, err := reader.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection ended with %v, want %v", err, io.EOF)
	}
	c.wait(t)
	if strings.Contains(c.output.String(), "cut off") {
		t.Errorf("the idle connection was waited for: %s", c.output.String())
	}

	// The sockets outlive the server: a client queues, and the holder can still accept it.
	client, err := net.Dial("tcp", c.addresses[0])
	if err != nil {
		t.Fatalf("refused after the stop: %v", err)
	}
	defer client.Close()
	c.listeners[0].SetDeadline(time.Now().Add(bound))
	accepted, err := c.listeners[0].Accept()
	if err != nil {
		t.Fatalf("the holder cannot accept after the stop: %v", err)
	}
	accepted.Close()
}

// TestStopIsBounded has a client that never finishes its request.
func TestStopIsBounded(t *testing.T) {
	c := start(t)
	slow, err := net.Dial("tcp", c.addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET /healthz HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	// Who is answered after it came after it, so the server has it.
	client := &http.Client{Timeout: bound}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + c.addresses[0] + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	begun := time.Now()
	c.stop(t)
	c.wait(t) // with exit code 0
	if took := time.Since(begun); took < stopTimeout || !strings.Contains(c.output.String(), "cut off") {
		t.Errorf("the stop took %s: nobody was waited for; it said: %s", took, c.output.String())
	}
}

func TestNoSockets(t *testing.T) {
	for name, set := range map[string][2]string{
		"none":          {"", ""},
		"somebody else": {strconv.Itoa(os.Getpid() + 1), "1"},
		"zero":          {strconv.Itoa(os.Getpid()), "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LISTEN_PID", set[0])
			t.Setenv("LISTEN_FDS", set[1])
			err := Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), "no sockets were passed") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNoSocketButAFile(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), "HELLO_TEST_CHILD=1", "LISTEN_FDS=1")
	command.ExtraFiles = []*os.File{file}
	output, err := command.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(output), "the passed descriptor 3 (LISTEN_FD_3) is not a listening socket") {
		t.Errorf("ended with %v and said: %s", err, output)
	}
}
