package frontdesk

import (
	"encoding/json"
	"fmt"
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

// answer answers every request alike.
func answer(notice func() Notice) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		current := notice()
		kind, body := "text/plain; charset=utf-8", current.text()
		// Programs name it where they can read it, people's browsers do not.
		if strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Accept"), ",")), "application/json") {
			kind, body = "application/json", current.json()
		}
		header := w.Header()
		header.Set("Retry-After", strconv.Itoa(current.retryAfter(time.Now())))
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
