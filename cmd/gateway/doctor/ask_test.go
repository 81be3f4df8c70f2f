package doctor

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
)

// TestDoctorAsks: what needs no look at other processes is answered at once, also on
// a busy machine, where a launcher must not be taken for hung.
func TestDoctorAsks(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), api.ControlSocket)
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.RequestURI
		_ = json.NewEncoder(w).Encode(api.Status{Version: "1.0"})
	})}
	go func() { _ = server.Serve(socket) }()
	defer server.Close()
	var status api.Status
	if err := ask(t.Context(), path, &status); err != nil || status.Version != "1.0" {
		t.Errorf("the answer is %+v, %v", status, err)
	}
	if got := <-asked; got != "GET /status?holders=no" {
		t.Errorf("asked %s", got)
	}
}
