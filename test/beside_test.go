package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// besideToken is that of an OpenClaw whose own commands can reach it.
const besideToken = "a-token-that-is-long-enough-for-a-test"

// beside is a machine on which OpenClaw is configured and runs under ours, as a user who has its command.
type beside struct {
	*machine.Machine
	claw *machine.Scope // whose OpenClaw it is
	home string
}

// besides starts one; the present OpenClaw is in /opt/other, too.
func besides(t *testing.T, here place, entry, probe string, flags ...string) *beside {
	t.Helper()
	folder := func(name string) string { return filepath.Dir(filepath.Dir(filepath.Dir(required(t, name)))) }
	m := here.boot(t, machine.Options{Users: true, Binds: map[string]string{
		"/opt/first/node_modules": folder(entry), "/opt/other/node_modules": folder("OPENCLAW_ENTRY"),
	}})
	b := &beside{Machine: m, claw: m.Scope}
	if !here.user {
		b.claw = m.AddUser(t, "claw")
		flags = append(flags, "--run-as", "claw")
	}
	b.home = b.claw.Home()
	root := m.As(m.System())
	root.Run(t, "ln", "-s", "/opt/first", "/opt/openclaw")
	root.Run(t, "ln", "-s", "/opt/openclaw/node_modules/openclaw/openclaw.mjs", "/usr/local/bin/openclaw")
	root.Run(t, "rm", "-f", "/.dockerenv") // in what looks like a container OpenClaw listens on 0.0.0.0
	m.As(b.claw).WriteFile(t, b.home+"/.openclaw/openclaw.json", fmt.Sprintf(
		`{"gateway": {"mode": "local", "bind": "loopback", "port": 18789, "auth": {"mode": "token", "token": %q}}}`, besideToken), 0o600)
	m.WriteFile(t, configPath(m.Scope), `
worker:
  command: [/usr/local/bin/node, /opt/openclaw/node_modules/openclaw/dist/index.js, gateway, run, --port, "18789", --bind, loopback]
  environment: ["PATH=/usr/local/bin:/usr/bin:/bin", "OPENCLAW_SUPERVISOR_MODE=external", "OPENCLAW_SERVICE_REPAIR_POLICY=external", "OPENCLAW_GATEWAY_PORT=18789"]
ready:
  path: `+probe+"\n", 0o644)
	m.Run(t, gatewayPath, append([]string{"install", "--" + kind(m.Scope), "--now"}, flags...)...)
	b.up(t)
	return b
}

// up has a client start OpenClaw and be answered.
func (b *beside) up(t *testing.T) {
	t.Helper()
	if code, body := get(t, b.Machine, ipv4, "/healthz"); code != http.StatusOK {
		t.Fatalf("GET http://%s/healthz: %d %s", ipv4, code, body)
	}
	serving(t, b.Scope, 1)
}

// openclaw runs a command of OpenClaw's own, as its user has it in a shell.
func (b *beside) openclaw(t *testing.T, arguments string) (output string, failed bool) {
	t.Helper()
	output, err := b.claw.Output("sh", "-c", "cd; exec 2>&1; /usr/local/bin/openclaw "+arguments+" </dev/null; echo exit=$?")
	if err != nil {
		t.Fatalf("openclaw %s: %v\n%s", arguments, err, output)
	}
	t.Logf("openclaw %s:\n%s", arguments, output)
	return output, !strings.HasSuffix(output, "exit=0\n")
}

// ours are the two units as they are on the disk, and whether they run.
func (b *beside) ours(t *testing.T) string {
	t.Helper()
	folder := "/etc/systemd/system"
	if b.User != "" {
		folder = b.Home() + "/.config/systemd/user"
	}
	return b.Run(t, "sh", "-c", fmt.Sprintf("cat %[1]s/%[2]s %[1]s/%[3]s; %[4]s is-active %[2]s %[3]s; %[4]s is-enabled %[2]s",
		folder, socket, service, systemctl(b.Scope)))
}

// pasted runs the commands of doctor's findings one after the other, as a person would who pastes each of them.
func (b *beside) pasted(t *testing.T, want ...string) {
	t.Helper()
	d := diagnose(t, b.Scope, gatewayPath, "--"+kind(b.Scope))
	t.Logf("doctor:\n%s", d.text())
	var ids []string
	for _, found := range d.Findings {
		ids = append(ids, found.ID)
		if output, err := b.Output("bash", "-c", found.Fix); err != nil {
			t.Fatalf("the command of %s: %v\n%s", found.ID, err, output)
		}
	}
	if strings.Join(ids, " ") != strings.Join(want, " ") {
		t.Errorf("doctor found %q, want %q", ids, want)
	}
}

// TestOpenClawsCommands runs OpenClaw's own commands beside ours when it was told whose its service is: they leave the units alone.
func TestOpenClawsCommands(t *testing.T) {
	t.Parallel()
	in(t, testOpenClawsCommands, place{name: "system"}, place{name: "user", user: true})
}

func testOpenClawsCommands(t *testing.T, here place) {
	b := besides(t, here, "OPENCLAW_ENTRY", "/startupz", "--external")
	silent(t, b.Scope, "--"+kind(b.Scope))
	file := b.home + "/.openclaw/.env"
	if owner := b.Run(t, "stat", "--format=%U %a", file); owner != b.claw.User+" 600\n" {
		t.Errorf("%s is %s", file, owner)
	}
	before := b.ours(t)
	generation := gatewayStatus(t, b.Scope).Worker.Generation
	for _, command := range []string{"gateway stop --force", "gateway start", "gateway install", "gateway install --force", "gateway uninstall", "update --yes"} {
		if output, failed := b.openclaw(t, command); !failed || !strings.Contains(output, "external supervisor") && !strings.Contains(output, "system-owned") {
			t.Errorf("openclaw %s does not refuse:\n%s", command, output)
		}
	}
	for _, command := range []string{"gateway status", "doctor", "doctor --repair --non-interactive"} {
		if output, _ := b.openclaw(t, command); strings.Contains(output, "gateway install --force") {
			t.Errorf("openclaw %s advises to replace our unit:\n%s", command, output)
		}
	}
	if after := b.ours(t); after != before {
		t.Errorf("the units were\n%s\nand are\n%s", before, after)
	}
	if s := gatewayStatus(t, b.Scope); s.Worker.Generation != generation {
		t.Errorf("generation %d serves, want %d", s.Worker.Generation, generation)
	}
	t.Run("restart", func(t *testing.T) {
		underLoad(t, b.Machine, ipv4, "/healthz", loops, func(*load.Load) {
			if output, failed := b.openclaw(t, "gateway restart"); failed {
				t.Errorf("openclaw gateway restart:\n%s", output)
			}
			serving(t, b.Scope, generation+1)
		})
		// What the first generation has compiled the second one has.
		var history api.History
		if err := json.Unmarshal([]byte(b.Run(t, gatewayPath, "status", "--history", "--json")), &history); err != nil {
			t.Fatal(err)
		}
		last := history.Generations[len(history.Generations)-1]
		files := b.Run(t, "sh", "-c", "find /var/cache/openclaw-gateway/node "+b.home+"/.cache/openclaw-gateway/node -type f 2>/dev/null | wc -l")
		t.Logf("%s files of compiled code", strings.TrimSpace(files))
		if last.Generation != generation+1 || last.Start != api.StartCached || len(strings.TrimSpace(files)) < 4 {
			t.Errorf("the last life is %+v, with %s files in the cache", last, files)
		}
	})
	t.Run("doctor --fix while it is stopped", func(t *testing.T) {
		b.Run(t, gatewayPath, "stop")
		if output, failed := b.openclaw(t, "doctor --fix --non-interactive"); failed {
			t.Errorf("openclaw doctor --fix:\n%s", output)
		}
		b.Run(t, gatewayPath, "start")
		b.up(t)
		if after := b.ours(t); after != before {
			t.Errorf("the units were\n%s\nand are\n%s", before, after)
		}
		silent(t, b.Scope, "--"+kind(b.Scope))
	})
	t.Run("uninstall", func(t *testing.T) {
		if here.user { // what the configuration has said is not known any more
			b.Run(t, "rm", configPath(b.Scope))
		}
		b.Run(t, gatewayPath, "uninstall", "--"+kind(b.Scope))
		if output, err := b.Output("cat", file); err == nil {
			t.Errorf("%s is there still:\n%s", file, output)
		}
	})
}

// TestOpenClawsUpdate: another OpenClaw is put where the one lies that runs, as npm does, and a restart runs it: with the line in its
// .env, and without. The older one, which knows no such line, is asked to do what its commands do first.
func TestOpenClawsUpdate(t *testing.T) {
	t.Parallel()
	in(t, testOpenClawsUpdate, place{name: "user of Debian 13", user: true, root: debian13}, place{name: "system"})
}

func testOpenClawsUpdate(t *testing.T, here place) {
	var flags []string
	if here.user {
		flags = append(flags, "--external")
	}
	b := besides(t, here, "OLD_OPENCLAW_ENTRY", "/healthz", flags...)
	root := b.As(b.Machine.System())
	runs := func() string {
		t.Helper()
		b.up(t)
		var s api.Status
		if err := json.Unmarshal([]byte(b.Run(t, gatewayPath, "status", "--json")), &s); err != nil || s.Worker.OpenClaw == nil {
			t.Fatalf("which OpenClaw runs is not known: %+v, %v", s.Worker, err)
		}
		return s.Worker.OpenClaw.Version
	}
	if version := runs(); version != "2026.5.5" {
		t.Fatalf("OpenClaw %s runs", version)
	}
	before := b.ours(t)
	if !here.user {
		b.olderCommands(t)
	}
	b.settled(t)
	root.Run(t, "ln", "-sfn", "/opt/other", "/opt/openclaw")
	want := []string{"openclaw-replaced"}
	if !here.user {
		want = append(want, "openclaw-not-external")
	}
	b.pasted(t, want...)
	if version := runs(); version != "2026.9.6" {
		t.Errorf("OpenClaw %s runs", version)
	}
	if after := b.ours(t); after != before {
		t.Errorf("the units were\n%s\nand are\n%s", before, after)
	}
	if here.user { // here, as elsewhere, OpenClaw's own restart is one of its worker
		generation := gatewayStatus(t, b.Scope).Worker.Generation
		if output, failed := b.openclaw(t, "gateway restart"); failed {
			t.Errorf("openclaw gateway restart:\n%s", output)
		}
		serving(t, b.Scope, generation+1)
		if after := b.ours(t); after != before {
			t.Errorf("the units were\n%s\nand are\n%s", before, after)
		}
	}
	if text := root.ReadFile(t, b.home+"/.openclaw/.env"); !strings.Contains(text, "OPENCLAW_SUPERVISOR_MODE=external\n") {
		t.Errorf("its .env is\n%s", text)
	}
	silent(t, b.Scope, "--"+kind(b.Scope))
}

// settled waits until OpenClaw 2026.5.5 has noted that its configuration is good, which it does when it has served for a moment. It empties
// the file for that, and its end does not wait: over an empty one the next version refuses to start.
func (b *beside) settled(t *testing.T) {
	t.Helper()
	lives := history(t, b.Machine)
	began := lives[len(lives)-1].Started
	b.WaitFile(t, b.home+"/.openclaw/logs/config-health.json", 2*bound, func(content string, _ error) bool {
		var health struct {
			Entries map[string]struct {
				LastPromotedGood struct{ ObservedAt time.Time }
			}
		}
		if json.Unmarshal([]byte(content), &health) != nil {
			return false
		}
		for _, entry := range health.Entries {
			if entry.LastPromotedGood.ObservedAt.After(began) {
				return true
			}
		}
		return false
	})
}

// olderCommands are those of 2026.5.5 beside a service of the system: what they do to ours, and that doctor mends what is left.
func (b *beside) olderCommands(t *testing.T) {
	t.Helper()
	before, generation := b.ours(t), gatewayStatus(t, b.Scope).Worker.Generation
	if output, failed := b.openclaw(t, "gateway restart"); failed {
		t.Errorf("openclaw gateway restart:\n%s", output)
	}
	b.up(t)
	if now := gatewayStatus(t, b.Scope).Worker.Generation; now <= generation {
		t.Errorf("generation %d serves, %d did before openclaw gateway restart", now, generation)
	}
	// A unit of its user's, which wants the port and ends our worker for it.
	if output, failed := b.openclaw(t, "gateway install"); failed {
		t.Errorf("openclaw gateway install:\n%s", output)
	}
	d := diagnose(t, b.Scope, gatewayPath)
	at := slices.IndexFunc(d.Findings, func(f finding) bool { return f.ID == "openclaw-unit-enabled" })
	if at < 0 {
		t.Fatalf("gateway doctor does not name OpenClaw's own unit:\n%s", d.text())
	}
	b.Run(t, "bash", "-euc", d.Findings[at].Fix)
	if state := b.claw.Unit(t, service).ActiveState; state == "active" || state == "activating" {
		t.Errorf("OpenClaw's own unit is %s after %s", state, d.Findings[at].Fix)
	}
	b.up(t)
	if after := b.ours(t); after != before {
		t.Errorf("the units were\n%s\nand are\n%s", before, after)
	}
	silent(t, b.Scope)
}

// TestAfterOpenClawsCommands: what OpenClaw's own commands leave of our units, when it was not told whose its service is, the
// commands mend that doctor prints, pasted one after the other; and nobody is refused while they do.
func TestAfterOpenClawsCommands(t *testing.T) {
	t.Parallel()
	for _, claw := range []struct {
		version, entry, probe string
		here                  place
		told                  bool // it can be
	}{
		{"2026.9.6", "OPENCLAW_ENTRY", "/startupz", place{user: true, root: debian13}, true},
		{"2026.5.5", "OLD_OPENCLAW_ENTRY", "/healthz", place{user: true}, false},
	} {
		t.Run(claw.version, func(t *testing.T) {
			t.Parallel()
			b := besides(t, claw.here, claw.entry, claw.probe)
			before := b.ours(t)
			whole := func(t *testing.T) {
				t.Helper()
				b.up(t)
				if after := b.ours(t); after != before {
					t.Errorf("the units were\n%s\nand are\n%s", before, after)
				}
				if claw.told && diagnose(t, b.Scope, gatewayPath, "--user").ids() != "" {
					b.pasted(t, "openclaw-not-external")
				}
				silent(t, b.Scope, "--user")
				b.Run(t, gatewayPath, "install", "--user", "--external=false")
			}
			whole(t)
			for _, left := range []struct {
				name, commands string
				want           []string
			}{
				{"install", "gateway install --force", []string{"openclaw-unit-enabled"}},
				{"uninstall", "gateway uninstall", []string{"service-missing"}},
				{"install and uninstall", "gateway install --force; openclaw gateway uninstall", []string{"openclaw-unit-enabled"}},
			} {
				t.Run(left.name, func(t *testing.T) {
					b.openclaw(t, left.commands)
					want := left.want
					if claw.told && want[0] == "service-missing" {
						want = append(want, "openclaw-not-external")
					}
					if refused := connecting(t, b.Machine, func() { b.pasted(t, want...) }); refused != nil {
						t.Errorf("a client was refused: %v", refused)
					}
					whole(t)
				})
			}
			t.Run("the socket has failed", func(t *testing.T) {
				b.openclaw(t, "gateway uninstall")
				b.Systemctl(t, "daemon-reload")
				_, _ = b.DialContext(t.Context(), "tcp", ipv4) // and the manager finds nothing to start
				b.WaitUnit(t, socket, bound, func(u machine.Unit) bool { return u.ActiveState == "failed" })
				b.pasted(t, "service-missing")
				whole(t)
			})
		})
	}
}

// connecting has a client connect again and again while something is done, and returns the first error.
func connecting(t *testing.T, m *machine.Machine, f func()) (refused error) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for pause := time.NewTicker(20 * time.Millisecond); ; <-pause.C { // so that the queue does not fill
			connection, err := m.DialContext(t.Context(), "tcp", ipv4)
			if err == nil {
				connection.Close()
			}
			select {
			case <-done:
				ended <- err
				return
			default:
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	f()
	close(done)
	return <-ended
}
