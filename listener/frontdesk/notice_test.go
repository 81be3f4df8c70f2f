package frontdesk

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/listener"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	const text = "503: the gateway cannot answer now.\nWhat failed: the worker ended with code 1\n" +
		"Since: 2026-03-04T05:06:07Z\nNext try: not planned\n"
	const plain = "text/plain; charset=utf-8"
	const asJSON = `{"problem":"the worker ended with code 1","since":"2026-03-04T05:06:07Z","next_start":null}` + "\n"
	for name, test := range map[string]struct{ request, kind, body string }{
		"text":               {get, plain, text},
		"any path":           {"GET /a//../b?c=d%zz HTTP/1.1\r\nHost: gateway\r\n\r\n", plain, text},
		"any host":           {"GET http://elsewhere/ HTTP/1.1\r\nHost: gateway\r\n\r\n", plain, text},
		"old":                {"GET / HTTP/1.0\r\n\r\n", plain, text},
		"old, kept alive":    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", plain, text},
		"JSON":               {"GET / HTTP/1.1\r\nHost: gateway\r\nAccept: application/json\r\n\r\n", "application/json", asJSON},
		"JSON among others":  {"GET / HTTP/1.1\r\nHost: gateway\r\nAccept: text/plain, Application/JSON; charset=utf-8, */*;q=0.5\r\n\r\n", "application/json", asJSON},
		"anything":           {"GET / HTTP/1.1\r\nHost: gateway\r\nAccept: */*\r\n\r\n", plain, text},
		"JSON before HTML":   {"GET / HTTP/1.1\r\nHost: gateway\r\nAccept: application/json, text/html;q=0.5\r\n\r\n", "application/json", asJSON},
		"Accept twice":       {"GET / HTTP/1.1\r\nHost: gateway\r\nAccept: text/plain;q=0.1\r\nAccept: application/json\r\n\r\n", "application/json", asJSON},
		"HEAD":               {"HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\n", plain, ""},
		"OPTIONS *":          {"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n", plain, text},
		"CONNECT":            {"CONNECT gateway:80 HTTP/1.1\r\nHost: gateway:80\r\n\r\n", plain, text},
		"own method":         {"BREW / HTTP/1.1\r\nHost: gateway\r\n\r\n", plain, text},
		"WebSocket":          {"GET /ws HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", plain, text},
		"HTTP/2 upgrade":     {"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", plain, text},
		"short body":         {"POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 5\r\n\r\nhello", plain, text},
		"chunks":             {"PUT / HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", plain, text},
		"15 KB of header":    {"GET / HTTP/1.1\r\nHost: gateway\r\nCookie: " + strings.Repeat("c", 15<<10) + "\r\n\r\n", plain, text},
		"asks to continue":   {"POST / HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", plain, text},
		"two with one write": {get + get, plain, text},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := listen(t, "127.0.0.1")
			openDesk(t, defaults, socket)
			response, body, err := ask(dial(t, socket), test.request)
			if err != nil {
				t.Fatal(err)
			}
			length := len(text)
			if test.kind != plain {
				length = len(test.body)
			}
			response.Header.Del("Date")
			response.Header.Del("Connection") // response.Close tells
			want := http.Header{
				"Retry-After":            {"30"},
				"Content-Type":           {test.kind},
				"Content-Length":         {fmt.Sprint(length)},
				"Cache-Control":          {"no-store"},
				"X-Content-Type-Options": {"nosniff"},
			}
			if diff := cmp.Diff(want, response.Header); diff != "" {
				t.Errorf("the header (-want +got):\n%s", diff)
			}
			if response.StatusCode != http.StatusServiceUnavailable || body != test.body || !response.Close {
				t.Errorf("the answer was %s, %q, with Connection: close: %t", response.Status, body, response.Close)
			}
		})
	}
}

func TestTheNextTry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for wait, want := range map[time.Duration]int{
		-time.Hour:              1,
		0:                       1,
		time.Nanosecond:         1,
		time.Second:             1,
		time.Second + 1:         2,
		119 * time.Second:       119,
		119*time.Second + 100e6: 120,
	} {
		if got := (Notice{Next: now.Add(wait)}).retryAfter(now); got != want {
			t.Errorf("%s before the next try, Retry-After is %d, not %d", wait, got, want)
		}
	}
	notice := failed
	notice.Next = time.Date(2026, 3, 4, 7, 8, 9, 0, time.FixedZone("", 3600))
	if got := string(notice.text()); !strings.HasSuffix(got, "\nNext try: 2026-03-04T06:08:09Z\n") {
		t.Errorf("the text is %q", got)
	}
	var body map[string]any
	if err := json.Unmarshal(notice.json(), &body); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"problem": failed.Problem, "since": "2026-03-04T05:06:07Z", "next_start": "2026-03-04T06:08:09Z"}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("the JSON (-want +got):\n%s", diff)
	}
}

// Each client is told the present state.
func TestNoticeIsAskedEachTime(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	asked := make(chan Notice, 2)
	asked <- Notice{Problem: "first"}
	asked <- Notice{Problem: "second"}
	desk, err := Open(listener.Set{socket}, func() Notice { return <-asked }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer desk.Close()
	for _, want := range []string{"first", "second"} {
		_, body, err := ask(dial(t, socket), get)
		if err != nil || !strings.Contains(body, want) {
			t.Errorf("the %s answer is %q, %v", want, body, err)
		}
	}
}

// A client that sends all before it reads must not be reset in the middle.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	limits := defaults
	limits.header, limits.request = bound, bound // the machine may be slow
	openDesk(t, limits, socket)
	for _, size := range []int{1 << 20, 16 << 20} {
		body := strings.Repeat("b", size)
		refused(t, dial(t, socket), fmt.Sprintf("POST / HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n%s", size, body))

		transport := &http.Transport{DisableKeepAlives: true}
		client := http.Client{Transport: transport, Timeout: bound}
		response, err := client.Post("http://"+socket.Address.String(), "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Error(err)
		}
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("the answer was %s", response.Status)
		}
		_ = response.Body.Close()
	}
}

// The answer does not wait for a body that is announced and does not come, and
// the connection ends all the same.
func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	limits := defaults
	limits.request = time.Second
	var clients []net.Conn
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		client := dial(t, socket)
		if _, err := io.WriteString(client, "POST / HTTP/1.1\r\nHost: gateway\r\n"+expect+"Content-Length: 5\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	openDesk(t, limits, socket) // whose time begins when it accepts them
	for _, client := range clients {
		refused(t, client, "")
	}
}

func TestTooLongAHeader(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	openDesk(t, defaults, socket)
	request := "GET / HTTP/1.1\r\nHost: gateway\r\nCookie: " + strings.Repeat("c", 1<<20) + "\r\n\r\n"
	client := dial(t, socket)
	go func() { _, _ = io.WriteString(client, request) }() // fails when the desk has had enough
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("the answer was %v, %v", response, err)
	}
}
