package frontdesk

import (
	_ "embed" // page.html
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Notice is what the clients are told.
type Notice struct {
	// Problem says in words what failed. Every client reads it, without having
	// shown who it is.
	Problem string
	// Since is when it failed.
	Since time.Time
	// Next is when it is tried again; zero when nobody knows.
	Next time.Time
}

// unknownRetry is the Retry-After, in seconds, when nobody knows.
const unknownRetry = 30

// retryAfter is in whole seconds, RFC 9110 section 10.2.3; a client that comes
// too early would come twice, so it is rounded up.
func (n Notice) retryAfter(now time.Time) int {
	if n.Next.IsZero() {
		return unknownRetry
	}
	wait := n.Next.Sub(now)
	return max(1, int((wait+time.Second-1)/time.Second))
}

func (n Notice) text() []byte {
	var b strings.Builder
	b.WriteString("503: the gateway cannot answer now.\n")
	fmt.Fprintf(&b, "What failed: %s\n", n.Problem)
	fmt.Fprintf(&b, "Since: %s\n", n.Since.UTC().Format(time.RFC3339))
	if n.Next.IsZero() {
		b.WriteString("Next try: not planned\n")
	} else {
		fmt.Fprintf(&b, "Next try: %s\n", n.Next.UTC().Format(time.RFC3339))
	}
	return []byte(b.String())
}

// json uses the names of "gateway status --json".
func (n Notice) json() []byte {
	body := struct {
		Problem   string  `json:"problem"`
		Since     string  `json:"since"`
		NextStart *string `json:"next_start"`
	}{Problem: n.Problem, Since: n.Since.UTC().Format(time.RFC3339)}
	if !n.Next.IsZero() {
		next := n.Next.UTC().Format(time.RFC3339)
		body.NextStart = &next
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return append(encoded, '\n')
}

//go:embed page.html
var page string

// html is for a person's browser, which asks again by itself if again is true.
func (n Notice) html(retryAfter int, again bool) []byte {
	refresh, next := "", "not planned"
	tries := "Reload this page when you want to try again."
	if again {
		refresh = fmt.Sprintf("<meta http-equiv=\"refresh\" content=\"%d\">\n", retryAfter)
		tries = fmt.Sprintf("This page tries again by itself in %d s.", retryAfter)
	}
	if !n.Next.IsZero() {
		next = moment(n.Next)
	}
	return []byte(strings.NewReplacer(
		"{refresh}", refresh, "{problem}", html.EscapeString(n.Problem), "{since}", moment(n.Since), "{next}", next, "{tries}", tries,
	).Replace(page))
}

func moment(t time.Time) string {
	text := t.UTC().Format(time.RFC3339)
	return fmt.Sprintf("<time datetime=%q>%s</time>", text, text)
}

// answer answers every request alike.
func answer(notice func() Notice) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		current := notice()
		retryAfter, header := current.retryAfter(time.Now()), w.Header()
		kind, body := "text/plain; charset=utf-8", current.text()
		// Programs name JSON where they can read it, and people's browsers HTML; of both the first one counts.
		accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
		asJSON, asHTML := strings.Index(accept, "application/json"), strings.Index(accept, "text/html")
		switch {
		case asHTML >= 0 && (asJSON < 0 || asHTML < asJSON):
			// To ask again for what was sent would be another thing.
			again := r.Method == http.MethodGet || r.Method == http.MethodHead
			kind, body = "text/html; charset=utf-8", current.html(retryAfter, again)
			header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		case asJSON >= 0:
			kind, body = "application/json", current.json()
		}
		header.Set("Retry-After", strconv.Itoa(retryAfter))
		header.Set("Content-Type", kind)
		header.Set("X-Content-Type-Options", "nosniff") // the problem may quote anything
		header.Set("Content-Length", strconv.Itoa(len(body)))
		header.Set("Cache-Control", "no-store")
		header.Set("Connection", "close")
		w.WriteHeader(http.StatusServiceUnavailable)
		// An error means that the client has gone.
		_, _ = w.Write(body)
		_ = http.NewResponseController(w).Flush()
		// Many clients send all of a request before they read. Closing now would
		// reset them in the middle of it, so the rest is taken and dropped, until
		// the server's ReadTimeout.
		_, _ = io.Copy(io.Discard, r.Body)
	}
}
