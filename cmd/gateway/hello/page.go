package hello

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"os"
	"sync"
)

//go:embed page.html
var pageText string

var page = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageText)) })

// newHandler answers all paths.
func newHandler(sockets *webSockets) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /healthz", jsonHandler(`{"ok":true,"status":"live"}`))
	mux.HandleFunc("GET /startupz", jsonHandler(`{"status":"started"}`))
	mux.Handle("GET /ws", sockets)
	return mux
}

func servePage(w http.ResponseWriter, r *http.Request) {
	config := os.Getenv("GATEWAY_CONFIG")
	if config == "" {
		config = "config.yaml"
	}
	var body bytes.Buffer
	err := page().Execute(&body, struct {
		Generation, Config, Client string
		PID                        int
	}{os.Getenv("GATEWAY_GENERATION"), config, r.RemoteAddr, os.Getpid()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store") // it names the generation
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = body.WriteTo(w) // an error means that the client has gone
}

func jsonHandler(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(body)) // an error means that the client has gone
	}
}
