package test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestListenEditByHand: a launcher without systemd opens and closes addresses
// as "listen" says, while clients of those that stay notice nothing.
func TestListenEditByHand(t *testing.T) { inScopes(t, testListenEditByHand) }

func testListenEditByHand(t *testing.T, here place) {
	const stays, goes, comes, occupied = ipv4, "127.0.0.1:18790", "127.0.0.1:18791", "127.0.0.1:18792"
	listen := func(addresses ...string) string { return "listen: ['" + strings.Join(addresses, "', '") + "']\n" }
	m := here.boot(t, machine.Options{})
	file := configPath(m.Scope)
	m.WriteFile(t, file, listen(stays, goes), 0o644)
	h := runByHand(t, m)
	inode := func(address string) uint64 {
		t.Helper()
		for _, line := range gatewayStatus(t, m.Scope).Sockets {
			if line.Address == address {
				return line.Inode
			}
		}
		return 0
	}
	wantAnswers := func(addresses ...string) {
		t.Helper()
		for _, address := range addresses {
			if code, body := get(t, m, address, "/healthz"); code != http.StatusOK {
				t.Errorf("%s answered %d %s", address, code, body)
			}
		}
	}
	wantRefused := func(address string) {
		t.Helper()
		if _, _, err := tryGet(t.Context(), m, address, "/healthz"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want nobody to listen", address, err)
		}
	}

	// Nobody has connected yet: the new address is waited on, the old one is closed.
	t.Run("waiting", func(t *testing.T) {
		const only = "127.0.0.1:18795"
		m.WriteFile(t, file, listen(stays, only), 0o644)
		m.Run(t, gatewayPath, "reload")
		wantRefused(goes)
		wantAnswers(only)
		m.WriteFile(t, file, listen(stays, goes), 0o644)
		m.Run(t, gatewayPath, "reload")
		wantAnswers(stays, goes)
		wantRefused(only)
	})
	kept := inode(stays)

	t.Run("one stays, one goes, one comes", func(t *testing.T) {
		before := gatewayStatus(t, m.Scope)
		underLoad(t, m, stays, "/healthz", 0, func(*load.Load) {
			m.WriteFile(t, file, listen(comes, stays), 0o644)
			m.Run(t, gatewayPath, "reload")
		})
		wantAnswers(stays, comes)
		wantRefused(goes)
		s := gatewayStatus(t, m.Scope)
		if got := inode(stays); got != kept || s.Worker.Generation != before.Worker.Generation+1 || len(s.Sockets) != 2 || s.Verdict != "ok" {
			t.Errorf("the status is %+v, want the next generation and inode %d, was %d", s, kept, got)
		}
		for _, line := range s.Sockets {
			roles := []string{}
			for _, holder := range line.Holders {
				roles = append(roles, holder.Role)
			}
			slices.Sort(roles)
			if !slices.Equal(roles, []string{"launcher", "worker"}) {
				t.Errorf("%s is held by %v", line.Address, roles)
			}
		}
	})

	t.Run("in use", func(t *testing.T) {
		before := gatewayStatus(t, m.Scope)
		free := occupy(t, m, "127.0.0.1:18792")
		m.WriteFile(t, file, listen(stays, "127.0.0.1:18796", occupied), 0o644)
		_, err := m.Output(gatewayPath, "reload")
		for _, word := range []string{file + ":1", occupied, "address already in use", "`gateway status`"} {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("gateway reload: %v, want %q", err, word)
			}
		}
		wantStatus(t, m.Scope, 1, "degraded", occupied+" is held by pid ", "python3", "gateway reclaim --force "+occupied)
		s := gatewayStatus(t, m.Scope)
		if s.Worker.PID != before.Worker.PID || len(s.Sockets) != 2 || s.Config.State != "rejected" || inode(stays) != kept {
			t.Errorf("the status is %+v, want the same worker and sockets", s)
		}
		wantAnswers(stays, comes)
		wantRefused("127.0.0.1:18796")
		free()
		wantStatus(t, m.Scope, 1, "degraded", "nobody else has the addresses of the edit now: `gateway reload --"+kind(m.Scope)+"` applies it")
		m.Run(t, gatewayPath, "reload", "--"+kind(m.Scope))
		wantStatus(t, m.Scope, 0, "ok")
		wantAnswers(stays, "127.0.0.1:18796", occupied)
		m.WriteFile(t, file, listen(comes, stays), 0o644)
		m.Run(t, gatewayPath, "reload")
	})

	t.Run("overlap", func(t *testing.T) {
		m.WriteFile(t, file, listen("0.0.0.0:18789"), 0o644)
		if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), "cannot be bound while "+stays+" is held") {
			t.Errorf("gateway reload: %v", err)
		}
		wantAnswers(stays, comes)
	})

	t.Run("rolled back", func(t *testing.T) {
		m.WriteFile(t, file, listen(comes, occupied)+worker("/bin/false"), 0o644)
		// In the queue of an address that the edit removes.
		underLoad(t, m, stays, "/healthz", 0, func(*load.Load) {
			if _, err := m.Output(gatewayPath, "reload"); err == nil || !strings.Contains(err.Error(), "last configuration that worked") {
				t.Errorf("gateway reload: %v", err)
			}
			answered := gatewayStatus(t, m.Scope)
			if answered.Config.State != "rejected" {
				t.Errorf("the status is %+v", answered)
			}
		})
		wantAnswers(stays, comes)
		wantRefused(occupied)
		if got := inode(stays); got != kept {
			t.Errorf("%s has inode %d, had %d", stays, got, kept)
		}
	})

	// What watches the sockets follows them: a worker that shuts down the new one is mended.
	t.Run("mended", func(t *testing.T) {
		m.WriteFile(t, file, listen(occupied)+worker("/usr/bin/python3", workersPath+"/misbehave/shuts.py")+"stop: {timeout: 1s}\n", 0o644)
		m.Run(t, gatewayPath, "reload")
		get(t, m, occupied, "/misbehave")
		h.waitLog(t, "somebody shut a listening socket down; it listens again", occupied)
		wantRefused(stays)
		m.WriteFile(t, file, listen(stays), 0o644)
		m.Run(t, gatewayPath, "reload")
		wantAnswers(stays)
	})

	t.Run("front desk", func(t *testing.T) {
		m.Run(t, "kill", "-TERM", strconv.Itoa(gatewayStatus(t, m.Scope).Launcher.PID))
		if err := h.command.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, h.logged())
		}
		dying := worker("/bin/false") + "  start: at-once\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
		m.WriteFile(t, file, listen(stays)+dying, 0o644)
		h := runByHand(t, m)
		h.waitLog(t, "front desk opened")
		m.WriteFile(t, file, listen(comes)+dying, 0o644)
		if _, err := m.Output(gatewayPath, "reload"); err == nil {
			t.Error("gateway reload succeeded with a worker that dies")
		}
		if code, _ := get(t, m, comes, "/"); code != http.StatusServiceUnavailable {
			t.Errorf("%s answered %d, want the front desk", comes, code)
		}
		m.WriteFile(t, file, listen(comes), 0o644)
		m.Run(t, gatewayPath, "reload")
		wantAnswers(comes)
		wantRefused(stays)
	})
}
