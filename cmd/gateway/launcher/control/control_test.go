package control

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
)

// TestSecond: where a launcher answers there is no second one; what a dead one left is replaced.
func TestSecond(t *testing.T) {
	directory, log := &runtimedir.Directory{Own: t.TempDir()}, slog.New(slog.DiscardHandler)
	path := filepath.Join(directory.Own, api.ControlSocket)
	first, err := New(directory, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(directory, log); err == nil || !strings.Contains(err.Error(), "another launcher") {
		t.Errorf("a second one: %v", err)
	}
	first.socket.SetUnlinkOnClose(false)
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	second, err := New(directory, log)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// waits is a launcher whose worker is to be ready only when the test says so, unless it is not waited for.
type waits struct {
	Verbs
	begun, ready chan struct{}
}

func (w waits) Restart(_ context.Context, now bool) error {
	if !now {
		close(w.begun)
		<-w.ready
	}
	return nil
}

// TestQuiet: whoever waits until every request has its answer holds up nobody who asks meanwhile.
func TestQuiet(t *testing.T) {
	c, err := New(&runtimedir.Directory{Own: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := waits{begun: make(chan struct{}), ready: make(chan struct{})}
	c.Serve(w)
	asker := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", c.socket.Addr().String())
	}}}
	ask := func(verb string) {
		t.Helper()
		response, err := asker.Post("http://launcher/"+verb, "", nil)
		if err != nil {
			t.Errorf("%s: %v", verb, err)
			return
		}
		response.Body.Close()
	}
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		ask("restart")
	}()
	<-w.begun
	waiting, cancel := context.WithCancel(t.Context())
	refused, quiet := make(chan error), make(chan func())
	go func() {
		_, err := c.Quiet(waiting)
		refused <- err
	}()
	for range 2 { // the second one is taken in when the first one is: it waits
		c.answered <- struct{}{}
	}
	ask("restart-now")
	cancel()
	if err := <-refused; err == nil || !strings.Contains(err.Error(), "a restart or a reload") {
		t.Errorf("while somebody waits for a restart: %v", err)
	}
	ask("restart-now")
	go func() {
		release, _ := c.Quiet(t.Context())
		quiet <- release
	}()
	close(w.ready)
	<-restarted
	release := <-quiet
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		ask("restart-now")
	}()
	select {
	case <-asked:
		t.Error("a request is answered while nobody is to ask")
	case <-time.After(100 * time.Millisecond):
	}
	release()
	<-asked
}
