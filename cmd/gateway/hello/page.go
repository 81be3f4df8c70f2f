package hello

import (
	"cmp"
	_ "embed"
	"html"
	"io"
	"net/http"
	"os"
	"strconv"
)

//go:embed page.html
var page string

// newHandler answers all paths.
func newHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /healthz", jsonHandler(`{"ok":true,"status":"live"}`))
	mux.HandleFunc("GET /startupz", jsonHandler(`{"status":"started"}`))
	return mux
}

func servePage(w http.ResponseWriter, r *http.Request) {
	values := map[string]string{
		"GENERATION": cmp.Or(os.Getenv("GATEWAY_GENERATION"), "unknown"),
		"CONFIG":     cmp.Or(os.Getenv("GATEWAY_CONFIG"), "config.yaml"),
		"CLIENT":     r.RemoteAddr,
		"PID":        strconv.Itoa(os.Getpid()),
	}
	// Not html/template, which makes the linker keep every method in the program: the launcher would be much larger.
	body := os.Expand(page, func(key string) string { return html.EscapeString(values[key]) })
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store") // it names the generation
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, body) // an error means that the client has gone
}

func jsonHandler(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(body)) // an error means that the client has gone
	}
}
