package handoff_test

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
)

// python is a program that runs a text in Python, with the port as its argument.
func python(t *testing.T, text string, sockets ...handoff.Socket) start {
	t.Helper()
	return start{
		kind: handoff.Intercept, sockets: sockets, path: lookPath(t, "python3"),
		arguments: []string{"-c", text, strconv.Itoa(int(sockets[0].Address.Port()))},
	}
}

const answering = `
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(5)
while True:
    c, _ = s.accept()
    while b"\r\n\r\n" not in c.recv(4096): pass
    c.sendall(b"HTTP/1.0 200 OK\r\n\r\nanswered"); c.close()
`

// TestIntercepted: a program that binds by itself gets the held socket, with the clients that wait in it.
func TestIntercepted(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	client := dial(t, sockets[0].Address)
	for range 2 { // generations
		w := python(t, answering, sockets...).run(t)
		w.reported(handoff.Report{Event: handoff.Listening, Address: sockets[0].Address, Held: true, Bound: true})
		w.answered("http", client)
		if got := backlog(t, sockets[0].File); got != 4096 {
			t.Errorf("the backlog is %d", got)
		}
		process, err := os.FindProcess(w.pid)
		if err = errors.Join(err, process.Kill()); err != nil {
			t.Fatal(err)
		}
		w.ends(-1)
		client = dial(t, sockets[0].Address)
	}
}

// TestInterceptedClash: who wants all addresses of a port of which one is held is heard of.
func TestInterceptedClash(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	w := python(t, strings.Replace(answering, "127.0.0.1", "0.0.0.0", 1), sockets...).run(t)
	w.reported(handoff.Report{Event: handoff.Failed, Code: "EADDRINUSE", Address: netaddr.From(netip.IPv4Unspecified(), sockets[0].Address.Port())})
	w.ends(1)
}

// TestInterceptedUnix: an address that cannot be handed over is refused before anything is started.
func TestInterceptedUnix(t *testing.T) {
	t.Parallel()
	_, err := handoff.New(handoff.Intercept, handoff.Nothing, handoff.NoGate, []handoff.Socket{{Address: netaddr.Unix("/run/a.sock")}}, nil, t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "unix:/run/a.sock cannot be handed over by intercept") {
		t.Errorf("the error is %v", err)
	}
}
