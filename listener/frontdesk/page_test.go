package frontdesk

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"openclaw-gateway/listener"
)

const browser = " / HTTP/1.1\r\nHost: gateway\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n" +
	"Content-Length: 0\r\n\r\n"

// TestPage: a browser gets what the text says, as HTML that is well-formed and asks nobody else for anything.
func TestPage(t *testing.T) {
	t.Parallel()
	now := time.Now()
	notice := Notice{Problem: `it <b>ended</b> & "so"`, Since: time.Unix(1e9, 0), Next: now.Add(time.Hour)}
	for method, refreshes := range map[string]bool{"GET": true, "POST": false} {
		socket := listen(t, "127.0.0.1")
		desk, err := open(listener.Set{socket}, func() Notice { return notice }, slog.New(slog.DiscardHandler), defaults)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(desk.Close)
		response, body, err := ask(dial(t, socket), method+browser)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Content-Type") != "text/html; charset=utf-8" ||
			!strings.HasPrefix(response.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %s %v", method, response.Status, response.Header)
		}
		texts, refresh := parsePage(t, body)
		for _, want := range []string{notice.Problem, "2001-09-09T01:46:40Z", notice.Next.UTC().Format(time.RFC3339)} {
			if !strings.Contains(texts, want) {
				t.Errorf("%s: %q is not among %q", method, want, texts)
			}
		}
		if after := response.Header.Get("Retry-After"); refreshes && (refresh != after || after == "") || !refreshes && refresh != "" {
			t.Errorf("%s: refreshes after %q, Retry-After is %q", method, refresh, after)
		}
	}
}

// parsePage returns the texts of a page and after how many seconds it asks again. Each element that is opened is closed.
func parsePage(t *testing.T, body string) (texts, refresh string) {
	t.Helper()
	var open []string
	for tokens := html.NewTokenizer(strings.NewReader(body)); ; {
		kind := tokens.Next()
		token := tokens.Token()
		switch kind {
		case html.ErrorToken:
			if tokens.Err() != io.EOF || len(open) > 0 {
				t.Errorf("the page ends with %v, within %v", tokens.Err(), open)
			}
			return texts, refresh
		case html.TextToken:
			texts += token.Data
		case html.StartTagToken:
			attributes := map[string]string{}
			for _, a := range token.Attr {
				attributes[a.Key] = a.Val
				if a.Key == "src" || a.Key == "href" {
					t.Errorf("it asks for %s", a.Val)
				}
			}
			if attributes["http-equiv"] == "refresh" {
				refresh = attributes["content"]
			}
			if token.Data != "meta" {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> within %v", token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
}

// TestTLS: a client that speaks TLS sees a clean end, and no HTTP that it takes for a wrong version.
func TestTLS(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	openDesk(t, defaults, socket)
	client := dial(t, socket)
	// More than one read takes.
	if _, err := client.Write(append([]byte{tlsHandshake, 3, 1, 2, 0}, make([]byte, 64<<10)...)); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(client); len(answer) > 0 || err != nil {
		t.Errorf("the client got %q, %v, want nothing and a clean end", answer, err)
	}
}
