package test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestFrontDesk: while no worker can, the launcher answers; it has stopped
// doing so before a worker takes the sockets.
func TestFrontDesk(t *testing.T) { inScopes(t, testFrontDesk) }

func testFrontDesk(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	dying := worker("/bin/false") + "  start: at-once\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
	install(t, m.Scope, m, dying)
	m.Systemctl(t, "start", service)
	statusText(t, m.Scope, "exit code 1", "next start at")
	last := gatewayStatus(t, m.Scope).Worker.LastExit

	response, err := m.HTTP().Get("http://" + ipv4 + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	after, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if response.StatusCode != http.StatusServiceUnavailable || err != nil || after < 1 || after > 30 {
		t.Errorf("the front desk answered %s with Retry-After %q, want 503 and the seconds until the next start",
			response.Status, response.Header.Get("Retry-After"))
	}
	// In a user's scope that is the second one: it was given the sockets for binding them, and the first one was not.
	failed := fmt.Sprintf("generation %d of the server behind this port ended: exit code 1\n", last.Generation)
	code, body := get(t, m, ipv6, "/healthz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, failed) {
		t.Errorf("the front desk answered %d %q, want %q", code, body, failed)
	}

	// From the desk to a worker under clients: each is answered, by one or the other.
	l := load.Start(t.Context(), load.Options{URL: "http://" + ipv4 + "/healthz", Dial: m.DialContext, Limit: bound})
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	answered(t, l)
	report := l.Stop()
	t.Logf("%s", report)
	if report.OK+report.Status[http.StatusServiceUnavailable] != report.Requests {
		t.Errorf("want nothing but 200 and 503: %s", report)
	}
}

// TestNoFrontDesk: front_desk: false leaves clients in the queue, where the next
// worker finds them.
func TestNoFrontDesk(t *testing.T) { inScopes(t, testNoFrontDesk) }

func testNoFrontDesk(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "front_desk: false\n"+worker("/bin/false")+"  start: at-once\nrestart: {backoff_min: 20s, backoff_max: 30s}\n")
	m.Systemctl(t, "start", service)
	statusText(t, m.Scope, "exit code 1", "next start at")
	conn, err := m.DialContext(t.Context(), "tcp", ipv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /healthz HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	m.WriteFile(t, configPath(m.Scope), "{}\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 ") {
		t.Errorf("the client in the queue got %q, %v, want 200 of the next worker", answer, err)
	}
}
