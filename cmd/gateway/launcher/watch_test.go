package launcher

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/launcher/control"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker"
)

// TestWatchStatus: each change is drawn, on a terminal in place; the end of the
// launcher and its return as well.
func TestWatchStatus(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1") // where the status looks when no launcher answers
	for _, kind := range []string{"terminal", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			l, c, at := rigControl(t)
			at.Unit, at.Scope = api.Unit{Name: instance.Default.Service(), Scope: "none"}, units.System
			out, shown := fixtures.Screen(t, kind == "terminal")
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- status.Watch(ctx, say.NewWriter(out), t.Output(), []client.Target{at}, status.Format{})
			}()

			text := shown("waiting")
			if redraws := strings.Contains(text, "\x1b[H"); redraws != (kind == "terminal") {
				t.Errorf("the screen is drawn anew: %v\n%q", redraws, text)
			}
			l.observe(worker.Status{State: worker.Ready, Generation: 7, PID: os.Getpid()})
			shown("generation 7 serves")
			c.Close()
			shown("down")
			again, err := control.New(&runtimedir.Directory{Own: filepath.Dir(at.Control)}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			l.observe(worker.Status{State: worker.Ready, Generation: 8, PID: os.Getpid()})
			again.Serve(l)
			shown("generation 8 serves")
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the watch ended with %v", err)
			}
		})
	}
}
