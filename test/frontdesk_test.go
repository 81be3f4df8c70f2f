package test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestFrontDesk: while no worker can, the launcher answers; it has stopped
// doing so before a worker takes the sockets.
func TestFrontDesk(t *testing.T) {
	m := boot(t, machine.Options{})
	dying := worker("/bin/false") + "  start: at-once\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
	install(t, m.Scope, m, dying)
	m.Systemctl(t, "start", service)
	statusText(t, m.Scope, "exit code 1", "next start at")

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
	code, body := get(t, m, ipv6, "/healthz")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "generation 1") || !strings.Contains(body, "exit code 1") {
		t.Errorf("the front desk answered %d %q, want what failed", code, body)
	}

	// From the desk to a worker under clients: each is answered, by one or the other.
	l := load.Start(t.Context(), load.Options{URL: "http://" + ipv4 + "/healthz", Dial: m.DialContext, Limit: bound})
	m.WriteFile(t, "/etc/openclaw-gateway/config.yaml", "{}\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	answered(t, l)
	report := l.Stop()
	t.Logf("%s", report)
	if report.OK+report.Status[http.StatusServiceUnavailable] != report.Requests {
		t.Errorf("want nothing but 200 and 503: %s", report)
	}

	// front_desk: false leaves them in the queue, where the next worker finds them.
	m.WriteFile(t, "/etc/openclaw-gateway/config.yaml", "front_desk: false\n"+dying, 0o644)
	if _, err := m.Output(gatewayPath, "reload"); err == nil {
		t.Error("gateway reload succeeded with a worker that dies")
	}
	type result struct {
		code int
		err  error
	}
	answers := make(chan result, 1)
	go func() {
		code, _, err := tryGet(t.Context(), m, ipv4, "/healthz")
		answers <- result{code, err}
	}()
	m.WriteFile(t, "/etc/openclaw-gateway/config.yaml", "{}\n", 0o644)
	m.Run(t, gatewayPath, "reload")
	if got := <-answers; got.err != nil || got.code != http.StatusOK {
		t.Errorf("the client in the queue got %+v, want 200 of the next worker", got)
	}
}
