package status

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// TestArrivals: a control socket is noticed that comes in a directory of its own,
// and when it goes with it.
func TestArrivals(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "openclaw-gateway")
	control := filepath.Join(directory, api.ControlSocket)
	a, err := newArrivals(control)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	await := func(what string, is func() bool) {
		t.Helper()
		for noticed := false; !noticed; noticed = is() {
			if a.await(ctx, false, nil); ctx.Err() != nil {
				t.Fatalf("%s was not noticed", what)
			}
		}
	}
	for range 3 {
		if err := os.Mkdir(directory, 0o700); err != nil {
			t.Fatal(err)
		}
		await("the directory", func() bool { return exists(directory) })
		c, err := net.Listen("unix", control)
		if err != nil {
			t.Fatal(err)
		}
		await("the socket", func() bool { return client.Target{Control: control}.Answers() })
		_ = c.Close()
		if err := os.Remove(directory); err != nil {
			t.Fatal(err)
		}
		await("the end", func() bool { return !exists(directory) })
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestWatchUntold: who cannot be told of changes is told so, beside the JSON.
func TestWatchUntold(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	socket := filepath.Join(t.TempDir(), api.ControlSocket)
	listening, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	// A launcher from before there was /watch.
	older := http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = older.Serve(listening) }()
	defer older.Close()
	notes, noted := fixtures.Screen(t, false)
	out, shown := fixtures.Screen(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	at := client.Target{Control: socket, Scope: units.System, Unit: api.Unit{Name: instance.Default.Service(), Scope: "none"}}
	go func() { ended <- Watch(ctx, out, notes, []client.Target{at}, Format{JSON: true}) }()
	noted("of the launcher of the system scope only the end and the return will be shown, and no change: the launcher answered with 404")
	shown("perhaps it is of another version")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the watch ended with %v", err)
	}
}

// TestWatchLate: a launcher that hangs and goes on is shown as one and the other.
func TestWatchLate(t *testing.T) {
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1")
	socket := filepath.Join(t.TempDir(), api.ControlSocket)
	listening, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	hung := make(chan struct{})
	late := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-hung
		_ = json.NewEncoder(w).Encode(api.Status{Version: api.ProgramVersion(), Worker: api.Worker{State: "ready"}})
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})}
	go func() { _ = late.Serve(listening) }()
	defer late.Close()
	ctx, cancel := context.WithCancel(t.Context())
	at := client.Target{Control: socket, Scope: units.System, Unit: api.Unit{Name: instance.Default.Service(), Scope: "none"}}
	ended := make(chan error, 1)
	told := make(chan View)
	go func() { ended <- follow(ctx, at, false, func(s View) { told <- s }) }()
	if s := <-told; s.Verdict != api.VerdictDegraded || !strings.Contains(strings.Join(s.Problems, ""), "does not answer") {
		t.Errorf("while it hangs: %s %q", s.Verdict, s.Problems)
	}
	close(hung)
	if s := <-told; s.Verdict != api.VerdictOK {
		t.Errorf("when it goes on: %s %q", s.Verdict, s.Problems)
	}
	cancel()
	<-ended
}
