package test

import (
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// TestRuntimeDirectory: a control socket that somebody removes comes back by itself, and so does its directory. Where only root
// can make that, the launcher says so, is still there to be asked, and starts the next generation all the same.
func TestRuntimeDirectory(t *testing.T) { inScopes(t, testRuntimeDirectory) }

func testRuntimeDirectory(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	root := m.As(m.System())
	directory := "/run/openclaw-gateway"
	if here.user {
		directory = m.RuntimeDir() + "/openclaw-gateway"
		install(t, m.Scope, m, worker(nodePath, workersPath+"/server.js"))
	} else {
		root.Run(t, "useradd", "--create-home", "claw")
		install(t, m.Scope, m, worker(nodePath, workersPath+"/server.js"), "--run-as", "claw")
	}
	get(t, m, ipv4, "/healthz")
	serving(t, m.Scope, 1)
	launcher := gatewayStatus(t, m.Scope).Launcher.PID

	told := func(code int, problem string) {
		t.Helper()
		// Nothing tells a command that the launcher has noticed; it does so by itself, in its time.
		for deadline := time.Now().Add(bound); ; {
			text, exit := printedStatus(t, m.Scope)
			if exit == code && strings.Contains(text, problem) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("exit status %d, want %d and %q:\n%s", exit, code, problem, text)
			}
		}
	}
	root.Run(t, "rm", directory+"/control.sock")
	told(0, "generation 1 serves")
	root.Run(t, "mv", directory, directory+".away")
	if here.user {
		told(0, "generation 1 serves")
	} else {
		told(1, "/var/cache/openclaw-gateway stands in for it")
	}
	m.Run(t, gatewayPath, "restart")
	serving(t, m.Scope, 2)
	if !here.user {
		text, _ := printedStatus(t, m.Scope)
		_, command, _ := strings.Cut(text, "which as root \"")
		command, _, _ = strings.Cut(command, "\"")
		root.Run(t, "sh", "-c", command)
		told(0, "generation 2 serves")
		m.Run(t, gatewayPath, "restart")
		serving(t, m.Scope, 3)
		if left := root.Run(t, "ls", "/var/cache/openclaw-gateway"); strings.Contains(left, ".sock") {
			t.Errorf("in the cache directory lies\n%s", left)
		}
	}
	// As full as it gets, with the preload script in it; the directory may lie on a file system of its own.
	root.Run(t, "mount", "-o", "remount,size=16m", strings.TrimSpace(root.Run(t, "findmnt", "-n", "-o", "TARGET", "-T", directory)))
	if text, err := root.Output("dd", "if=/dev/zero", "of="+directory+"/fill"); err == nil || !strings.Contains(text+err.Error(), "No space left") {
		t.Fatalf("not full: %v %s", err, text)
	}
	before := gatewayStatus(t, m.Scope).Worker.Generation
	m.Run(t, gatewayPath, "restart")
	serving(t, m.Scope, before+1)
	root.Run(t, "rm", directory+"/fill")
	if now := gatewayStatus(t, m.Scope).Launcher.PID; now != launcher {
		t.Errorf("launcher %d has become %d", launcher, now)
	}
}
