package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
)

// TestGivenUp: that an edit is rolled back is told as soon as it is decided, while the
// worker of the edit still ends; the addresses that it alone has are closed with it,
// and the next edit is compared with what comes back.
func TestGivenUp(t *testing.T) {
	l, _, at := rigControl(t)
	addresses := []netaddr.Address{sockets.Free(t), sockets.Free(t)}
	edit := func(number int, listen ...netaddr.Address) *edition {
		t.Helper()
		if _, err := l.held.claim(number, wish{listen: listen}); err != nil {
			t.Fatal(err)
		}
		e := &edition{cfg: config.Default(), spec: generation.Spec{Edition: number}, addresses: listen}
		l.editions.accept(e)
		return e
	}
	held := func() int {
		sockets, _ := l.held.current()
		return len(sockets)
	}
	t.Cleanup(func() { l.held.retainClaims(func(int) bool { return false }) })

	good := edit(1, addresses[0])
	l.observe(worker.Status{State: worker.Ready, Generation: 1, Edition: 1})
	edit(2, addresses...)
	l.observe(worker.Status{State: worker.Starting, Generation: 2, Edition: 2})
	const why = "generation 2: not ready after 1s"
	givenUp := worker.Status{
		State: worker.Stopping, Generation: 2, Edition: 1, Ending: ends.ReasonUnready, RolledBack: 2, RollbackReason: why,
	}
	l.observe(givenUp)
	var s api.Status
	if err := at.Ask(t.Context(), "/status", &s); err != nil {
		t.Fatal(err)
	}
	if s.Config.State != "rejected" || s.Config.Error != why || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "comes back, because of the new one "+why) {
		t.Errorf("while it ends: %+v, problems %q", s.Config, s.Problems)
	}
	if l.editions.current() != good || held() != 2 {
		t.Errorf("while it ends edition %d is current, and %d addresses are held", l.editions.current().spec.Edition, held())
	}
	givenUp.State, givenUp.Ending, givenUp.Generation = worker.Starting, "", 3
	l.observe(givenUp)
	if l.editions.current() != good || held() != 1 {
		t.Errorf("when it has ended edition %d is current, and %d addresses are held", l.editions.current().spec.Edition, held())
	}
}

// applied counts what the supervisor is told to do.
type applied int

func (a *applied) Apply(generation.Spec, bool) <-chan error {
	*a++
	done := make(chan error)
	close(done)
	return done
}

// TestLateNotice: the notice of an edit that somebody has asked for, and that was rolled back meanwhile, is not a second try
// of it; asking again is, and so is writing it again.
func TestLateNotice(t *testing.T) {
	l, _, _ := rigControl(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	listen := sockets.Free(t)
	t.Cleanup(func() { l.held.retainClaims(func(int) bool { return false }) })
	write := func(command string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("listen: ['"+listen.String()+"']\nworker:\n  command: ["+command+"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var tried applied
	e := l.editions
	e.files, e.supervisor = config.Named{Path: path}, &tried
	reload := func(noticed bool, want applied) {
		t.Helper()
		if err := e.reload(t.Context(), noticed); err != nil {
			t.Fatal(err)
		}
		if tried != want {
			t.Errorf("%d editions were tried, want %d", tried, want)
		}
	}
	write("/bin/good")
	reload(false, 1)
	l.observe(worker.Status{State: worker.Ready, Generation: 1, Edition: 1})
	write("/bin/bad")
	reload(false, 2)
	rolledBack := e.latest.Load().spec.Edition
	l.observe(worker.Status{State: worker.Ready, Generation: 3, Edition: 1, RolledBack: rolledBack})
	reload(true, 2)
	reload(false, 3)
	l.observe(worker.Status{State: worker.Ready, Generation: 5, Edition: 1, RolledBack: e.latest.Load().spec.Edition})
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	reload(true, 4)
}
