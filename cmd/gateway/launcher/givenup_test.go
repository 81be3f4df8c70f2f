package launcher

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/worker"
)

// TestGivenUp: that an edit is rolled back is told as soon as it is decided, while the
// worker of the edit still ends; the addresses that it alone has are closed with it,
// and the next edit is compared with what comes back.
func TestGivenUp(t *testing.T) {
	l, _, at := rigControl(t)
	var addresses []netip.AddrPort
	for range 2 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, free.Addr().(*net.TCPAddr).AddrPort())
		free.Close()
	}
	edit := func(number int, listen ...netip.AddrPort) *edition {
		t.Helper()
		if _, err := l.held.claim(number, listen); err != nil {
			t.Fatal(err)
		}
		e := &edition{cfg: config.Default(), spec: worker.Spec{Edition: number}, addresses: listen}
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
		State: worker.Stopping, Generation: 2, Edition: 1, Ending: worker.ReasonUnready, RolledBack: 2, RollbackReason: why,
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
