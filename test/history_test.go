package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// TestHistorySurvives: the next launcher knows the generations of the one before, however that has ended, and goes on counting.
// What it cannot keep is told, and costs nothing.
func TestHistorySurvives(t *testing.T) { inScopes(t, testHistorySurvives) }

func testHistorySurvives(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	// Where it is not there, systemd 254 and later make a link to the folder of the configuration.
	m.Run(t, "mkdir", "-p", statePath(m.Scope))
	install(t, m.Scope, m, "{}\n")
	serves := func(t *testing.T, generation int) {
		t.Helper()
		get(t, m, ipv4, "/healthz")
		serving(t, m.Scope, generation)
	}
	serves(t, 1)
	m.Systemctl(t, "restart", service)
	serves(t, 2)
	s := gatewayStatus(t, m.Scope)
	ended := handleOf(t, process(t, m, s.Worker.PID))
	kept(t, m, 2)
	kill(t, m, s.Launcher.PID)
	ended.awaitEnd(t) // until then it can answer a client, for whom nobody is started
	serves(t, 3)
	m.Systemctl(t, "stop", service)
	serves(t, 4)
	got := lives(t, m)
	want := []string{"1 ended stop exit code 0", "2 ended stop SIGKILL", "3 ended stop exit code 0", "4 ready"}
	if !slices.Equal(got, want) {
		t.Errorf("the history is %q, want %q", got, want)
	}
	root := m.As(m.System())
	root.Run(t, "journalctl", "--sync")
	for generation := range 4 {
		entries := root.Run(t, "journalctl", "--identifier=gateway", "--output=cat", fmt.Sprintf("GENERATION=%d", generation+1))
		if n := strings.Count(entries, "worker ready"); n != 1 {
			t.Errorf("%d workers were ready as generation %d:\n%s", n, generation+1, entries)
		}
	}

	t.Run("a full disk", func(t *testing.T) {
		state := statePath(m.Scope)
		m.Systemctl(t, "stop", service)
		root.Run(t, "mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", state)
		root.Run(t, "chown", fmt.Sprint(m.UID), state)
		root.Run(t, "/bin/sh", "-c", "head -c 1000000 /dev/zero >"+state+"/ballast || true")
		serves(t, 1)
		m.WriteFile(t, configPath(m.Scope), "worker: {environment: [EDITED=1]}\n", 0o644)
		m.Run(t, gatewayPath, "reload")
		edited := gatewayStatus(t, m.Scope)
		wantStatus(t, m.Scope, 1, "degraded", "the history of the generations is not kept for the next start of the launcher: ", "no space left on device: make room for "+state,
			"the configuration that works is not kept for the next start of the launcher: ")
		if edited.Worker.Generation != 2 || edited.Config.State != "applied" {
			t.Errorf("the edit: %+v", edited)
		}
		root.Run(t, "rm", state+"/ballast")
		deadline := time.Now().Add(bound)
		for s := gatewayStatus(t, m.Scope); s.Verdict != "ok"; s = gatewayStatus(t, m.Scope) {
			if time.Now().After(deadline) {
				t.Fatalf("there is room again, and the status is %+v", s)
			}
		}
		m.Systemctl(t, "restart", service)
		if code, _ := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Errorf("the next launcher answers with %d", code)
		}
		if got := lives(t, m); len(got) != 3 || !strings.HasPrefix(got[2], "3 ") {
			t.Errorf("the history is %q", got)
		}
		m.Systemctl(t, "stop", service)
		root.Run(t, "umount", state)
	})
	t.Run("of another form", func(t *testing.T) {
		root.Run(t, "/bin/sh", "-c", `echo '{"generation":70,"state":{}}' >>`+statePath(m.Scope)+"/history.jsonl")
		serves(t, 71)
		if text := m.Run(t, gatewayPath, "status", "--history"); !strings.Contains(text, "1 line of "+statePath(m.Scope)+"/history.jsonl left out: line 5 is torn or no entry") {
			t.Errorf("the history says\n%s", text)
		}
	})
	t.Run("without a directory", func(t *testing.T) {
		dropIn(t, m, "StateDirectory=\n")
		m.Systemctl(t, "restart", service)
		get(t, m, ipv4, "/healthz")
		serving(t, m.Scope, 1)
		wantStatus(t, m.Scope, 1, "degraded", "the history of the generations is not kept", `the unit gives it no state directory (StateDirectory=): run "gateway install" again`)
	})
}

// kept waits until the next launcher would know of the generation: it is written beside everything else.
func kept(t *testing.T, m *machine.Machine, generation int) {
	t.Helper()
	m.WaitFile(t, statePath(m.Scope)+"/history.jsonl", bound, func(content string, _ error) bool {
		return strings.Contains(content, fmt.Sprintf(`"generation":%d,`, generation))
	})
}

// lives is the history in short.
func lives(t *testing.T, m *machine.Machine) []string {
	t.Helper()
	var history struct {
		Generations []struct {
			Generation    int
			State, Signal string
			Code          int
			Reason        string
		}
	}
	if err := json.Unmarshal([]byte(m.Run(t, gatewayPath, "status", "--history", "--json")), &history); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range history.Generations {
		text := fmt.Sprintf("%d %s", g.Generation, g.State)
		switch {
		case g.State != "ended":
		case g.Signal != "":
			text += " " + g.Reason + " " + g.Signal
		default:
			text += fmt.Sprintf(" %s exit code %d", g.Reason, g.Code)
		}
		all = append(all, text)
	}
	return all
}
