package check

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/test/fixtures"
)

// TestNarrow: nothing that is said of a configuration is wider than the terminal.
func TestNarrow(t *testing.T) {
	t.Parallel()
	out, fits := fixtures.Narrow(t, 60)
	w := say.NewWriter(out)
	_, err := config.Parse("/etc/openclaw-gateway/config.yaml", []byte("listn: ['127.0.0.1:18789']\nready: {timeout: soon, probe: perhaps, path: nowhere}\n"))
	if err := PrintMistakes(w, err); !errors.Is(err, ErrSaid) {
		t.Fatal(err)
	}
	reply := api.CheckReply{PID: 77, Summary: "the last line", Changes: []api.Change{
		{Key: "worker.command", From: "[node, /opt/openclaw/dist/index.js]", To: "[node, /srv/openclaw/dist/index.js, gateway]", Effect: api.EffectAtOnce},
	}}
	if err := status.WriteCheck(w, reply, client.Target{Scope: "system"}); err != nil {
		t.Fatal(err)
	}
	fits("the last line")
}

// TestInUse: who has an address that a file asks for is told, with what to do about it; not where another user wrote that file.
func TestInUse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	runtime, file := t.TempDir(), filepath.Join(t.TempDir(), "config.yaml")
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	control := filepath.Join(runtime, "openclaw-gateway", api.ControlSocket)
	if err := errors.Join(os.Mkdir(filepath.Dir(control), 0o700), os.WriteFile(file, []byte("{}\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"rejected":"no","in_use":%q}`, held.Addr()) // to whatever is asked
	})}
	go func() { _ = server.Serve(socket) }()
	defer server.Close()
	for owner, way := range map[int]string{0: "name the address only once", 65534: "user nobody asks for it"} {
		if err := os.Chown(file, owner, -1); err != nil {
			t.Fatal(err)
		}
		err := File(t.Context(), io.Discard, io.Discard, client.Choice{User: true}, file)
		want := fmt.Sprintf("would reject it: no: %s is held by this very process (pid %d): %s", held.Addr(), os.Getpid(), way)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a file of uid %d: %v, want %s", owner, err, want)
		}
	}
}
