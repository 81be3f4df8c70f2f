package test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestAdoptRebooted has the machine go down half way, by its own will or without power, and come up again on the same disk: what was
// there is put back, and adopted then.
func TestAdoptRebooted(t *testing.T) { inScopes(t, testAdoptRebooted) }

func testAdoptRebooted(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	stale(t, m)
	up := func(t *testing.T) {
		t.Helper()
		if m.User != "" {
			m.As(m.System()).WaitUnit(t, "user@1000.service", bound, machine.Active)
		}
	}
	before := everything(t, m, service)
	intact := func(t *testing.T) {
		t.Helper()
		m.WaitUnit(t, service, bound, machine.Active)
		same(t, everything(t, m, service), before)
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK || !strings.HasPrefix(body, "generation undefined") {
			t.Errorf("the port is answered by %d %q, want the old one", code, body)
		}
	}
	adopted := func(t *testing.T) {
		t.Helper()
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK || !strings.HasPrefix(body, "generation ") || strings.Contains(body, "undefined") {
			t.Fatalf("the port is answered by %d %q, want ours", code, body)
		}
	}
	back := []string{gatewayPath, "adopt", "--undo", "--" + kind(m.Scope)}
	for _, c := range []struct {
		name, step string
		down       func(testing.TB)
		argv       []string // what is ended half way
	}{
		{"no power before the old one stops", "writing ", m.CutPower, adopting(m.Scope)},
		{"no power as ours takes its place", "stopping ", m.CutPower, adopting(m.Scope)},
		{"no power as the socket opens", "putting ", m.CutPower, adopting(m.Scope)},
		{"no power as the worker answers", ipv4 + " and ", m.CutPower, adopting(m.Scope)},
		{"rebooted as the socket opens", "putting ", m.Reboot, adopting(m.Scope)},
		{"no power on the way back", "stopping ", m.CutPower, back},
		{"rebooted on the way back", "stopping ", m.Reboot, back},
	} {
		if here.user && c.step != "putting " && c.step != "stopping " {
			continue // the system's scope has all of them
		}
		t.Run(c.name, func(t *testing.T) {
			if c.argv[2] == "--undo" {
				m.Run(t, adopting(m.Scope)[0], adopting(m.Scope)[1:]...)
				adopted(t)
			}
			half := begin(t, m.Scope, c.argv...)
			if !half.after(t, c.step, 0) {
				t.Fatalf("there is nothing behind %q:\n%s", c.step, half.end(t, m, 9))
			}
			ended := make(chan error, 1)
			go func() { ended <- half.wait() }() // or a shutdown waits for what has ended, and was not waited for
			cut, said := strings.HasPrefix(c.name, "no power"), make(chan string, 1)
			read := func() {
				rest, _ := io.ReadAll(half.read)
				said <- string(rest)
			}
			if !cut { // it is told to end, and goes back as far as systemd lets it: what it says is read meanwhile
				go read()
			}
			c.down(t)
			if cut {
				read()
			}
			<-ended
			t.Logf("it had said:\n%s\n%s%s", strings.Join(half.printed, "\n"), <-said, half.said.String())
			up(t)
			if output, _ := tried(t, m.Scope, gatewayPath, "status"); cut && !strings.Contains(output, "was interrupted") {
				t.Errorf("gateway status does not say that it is half done:\n%s", output)
			}
			// Once by adopting, which puts back first, and else by --undo alone.
			if c.step == "putting " {
				m.Run(t, adopting(m.Scope)[0], adopting(m.Scope)[1:]...)
				adopted(t)
			}
			t.Log(m.Run(t, back[0], back[1:]...))
			intact(t)
		})
		if t.Failed() {
			return
		}
	}
	t.Run("adopted", func(t *testing.T) {
		m.Run(t, adopting(m.Scope)[0], adopting(m.Scope)[1:]...)
		m.Reboot(t)
		up(t)
		adopted(t)
		m.CutPower(t)
		up(t)
		m.Run(t, back[0], back[1:]...)
		intact(t)
	})
}
