package frontdesk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/test/wait"
)

// bound is how long a test waits for an event that must come.
const bound = 20 * time.Second

var failed = Notice{Problem: "the worker ended with code 1", Since: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)}

// Beside variables that are called sockets.
var control, blocking = sockets.Control, sockets.Blocking

// listen binds a host at a port that was free.
func listen(t *testing.T, host string) *listener.Socket {
	t.Helper()
	socket := sockets.AtFreePort(t, host, listener.Bind)
	t.Cleanup(func() { _ = socket.File.Close() })
	return socket
}

// openDesk opens a desk with limits of its own. With the test it is closed, and
// its connections end: another test counts the descriptors of the process.
func openDesk(t *testing.T, limits bounds, sockets ...*listener.Socket) *Desk {
	t.Helper()
	desk, err := open(sockets, func() Notice { return failed }, slog.New(&recorder{records: make(chan slog.Record, 1000)}), limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		desk.Close()
		talking(t, desk, 0)
	})
	return desk
}

// recorder keeps what is logged.
type recorder struct{ records chan slog.Record }

func (*recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r *recorder) WithGroup(string) slog.Handler          { return r }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.records <- record
	return nil
}

// next waits for the next record and returns its level and its waiting time.
func (r *recorder) next(t *testing.T) (level slog.Level, retry time.Duration, text string) {
	t.Helper()
	select {
	case record := <-r.records:
		text = record.Message
		record.Attrs(func(attr slog.Attr) bool {
			text += " " + attr.String()
			if attr.Key == "retry_in" {
				retry = attr.Value.Duration()
			}
			return true
		})
		return record.Level, retry, text
	case <-time.After(bound):
		t.Fatalf("nothing was logged within %s", bound)
		return 0, 0, ""
	}
}

func dial(t *testing.T, socket *listener.Socket) net.Conn {
	t.Helper()
	client, err := connect(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func connect(socket *listener.Socket) (net.Conn, error) {
	client, err := net.DialTimeout("tcp", socket.Address.String(), bound)
	if err != nil {
		return nil, err
	}
	return client, client.SetDeadline(time.Now().Add(bound))
}

// ask sends a request over a connection and reads to its end.
func ask(client net.Conn, request string) (*http.Response, string, error) {
	if _, err := io.WriteString(client, request); err != nil {
		return nil, "", err
	}
	return receive(client, request)
}

func receive(client net.Conn, request string) (*http.Response, string, error) {
	method := http.MethodGet
	if len(request) > 4 && request[:4] == "HEAD" {
		method = http.MethodHead
	}
	reader := bufio.NewReader(client)
	response, err := http.ReadResponse(reader, &http.Request{Method: method})
	if err != nil {
		return nil, "", fmt.Errorf("read the answer: %w", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, "", fmt.Errorf("read the body: %w", err)
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		return nil, "", fmt.Errorf("behind the answer came %q, %w", rest, err)
	}
	return response, string(body), client.Close()
}

const get = "GET / HTTP/1.1\r\nHost: gateway\r\n\r\n"

// refused expects the desk's answer.
func refused(t *testing.T, client net.Conn, request string) {
	t.Helper()
	response, _, err := ask(client, request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("the answer was %s", response.Status)
	}
}

// work accepts one client, as a worker would, and answers it.
func work(socket *listener.Socket) error {
	raw, err := socket.File.SyscallConn()
	if err != nil {
		return err
	}
	var accepted int
	var acceptErr error
	if err := raw.Control(func(fd uintptr) { accepted, _, acceptErr = unix.Accept4(int(fd), unix.SOCK_CLOEXEC) }); err != nil {
		return err
	}
	if acceptErr != nil {
		return acceptErr
	}
	file := os.NewFile(uintptr(accepted), "client")
	if _, err := http.ReadRequest(bufio.NewReader(file)); err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = io.WriteString(file, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	return errors.Join(err, file.Close())
}

// await turns until a state is reached that no event tells of.
func await(t *testing.T, what string, reached func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(bound); ; runtime.Gosched() {
		ok, seen := reached()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s, last seen: %s", what, bound, seen)
		}
	}
}

// talking waits until a desk has so many connections.
func talking(t *testing.T, desk *Desk, connections int) {
	t.Helper()
	await(t, fmt.Sprintf("the desk has %d connections", connections), func() (bool, string) {
		open := len(desk.acceptor.places)
		return open == connections, fmt.Sprintf("%d", open)
	})
}

func queued(t *testing.T, clients int, sockets ...*listener.Socket) {
	t.Helper()
	await(t, fmt.Sprintf("%d clients are queued", clients), func() (bool, string) {
		found, err := listener.Set(sockets).Queued()
		return err == nil && found == clients, fmt.Sprintf("%d, %v", found, err)
	})
}

// within runs f and fails if it takes longer than the bound.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	wait.Within(t, bound, what, func() error { f(); return nil })
}
