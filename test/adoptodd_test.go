package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestAdoptOdd takes over units in forms that few people have, and gives them back: what a process of theirs has is compared before,
// meanwhile and after.
func TestAdoptOdd(t *testing.T) { inScopes(t, testAdoptOdd) }

func testAdoptOdd(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	prepare(t, m)
	m.Run(t, "rm", unitPath(m.Scope, "claw.service"), unitPath(m.Scope, "stranger.service"))
	root := m.As(m.System())
	root.Run(t, "rm", "-rf", "/.dockerenv", "/root/.openclaw")
	user, folder := "", filepath.Dir(unitPath(m.Scope, "x"))
	if m.User == "" {
		user = "User=claw\n"
		m.Run(t, "useradd", "--create-home", "claw")
	}
	entry := "/opt/my bot 100%/node_modules/openclaw/dist/index.js"
	root.WriteFile(t, entry, root.ReadFile(t, clawEntry), 0o644)
	root.WriteFile(t, filepath.Dir(filepath.Dir(entry))+"/package.json", `{"name": "openclaw", "version": "2026.9.6"}`, 0o644)
	quoted := `"` + strings.ReplaceAll(entry, "%", "%%") + `"`
	const install = "[Install]\nWantedBy=default.target\n"
	for _, c := range []struct {
		name, unit string
		files      map[string]string
		links      map[string]string
		enable     string // what systemctl is told
		system     bool   // not a user's
		user       bool   // not the system's
	}{
		{
			name: "quotes, lines and patterns", unit: `my\x2dbot.service`, enable: `my\x2dbot.service`,
			files: map[string]string{
				folder + `/my\x2dbot.service`: "[Unit]\nDescription=a \"bot\" \\\n  of mine\n[Service]\n" + user + "WorkingDirectory=-/srv/none\n" +
					"Environment=\"PEM=-----BEGIN-----\\nAb c=\\n-----END-----\" 'ONE=a \"b\" $HOME' TWO=\\x41%% \"THREE=it's\"\nEnvironment=GONE=1 N=%N\nUnsetEnvironment=GONE\n" +
					"EnvironmentFile=-/etc/my bot 100%%/*.env\nEnvironmentFile=-/etc/none/*.env\nStateDirectory=bot zoo\nRuntimeDirectory=bot\n" +
					"ExecStart=" + nodePath + " --max-old-space-size=300 " + quoted + ` gateway --name "a; b" '$$X' "${ONE}" --port 18789` + " \\\n# a comment\n  --verbose\n" + install,
				"/etc/my bot 100%/a.env": "FROM_FILE=\"two\nlines\"\n# no\nTICK='`x` $y \\'\n",
				"/etc/my bot 100%/b.env": "LAST=1\n",
			},
		},
		{
			name: "a file that lies elsewhere, and a second name", unit: "claw.service", enable: "$HOME/units/claw.service",
			files: map[string]string{
				"$HOME/units/claw.service": "[Service]\n" + user + "ExecStart=" + nodePath + " " + clawEntry + " gateway --port 18789\n" + install + "Alias=bot.service\n",
				// It holds for every unit whose name begins so.
				folder + "/claw-.service.d/none.conf": "[Service]\nMemoryMax=1M\n",
				folder + "/claw.service.d/50.conf":    "[Service]\nTasksMax=222\nEnvironment=A=1\nEnvironment=\nEnvironment=B=%p\n",
			},
			links: map[string]string{folder + "/claw.service.d/10.conf": "/dev/null"},
		},
		{
			name: "an instance of a template", unit: "claw@main-x.service", enable: "claw@main-x.service",
			files: map[string]string{
				folder + "/claw@.service":                              "[Service]\n" + user + "Environment=I=%i/%I\nExecStart=" + nodePath + " " + clawEntry + " gateway --port 18789 --name %i\n[Install]\nWantedBy=default.target\nDefaultInstance=none\n",
				folder + "/claw@.service.d/all.conf":                   "[Service]\nMemoryMax=900M\n",
				runPath(m.Scope, "claw@main-x.service.d/today.conf"):   "[Service]\nEnvironment=TODAY=1\n",
				folder + "/claw@main-x.service.d/one.conf":             "[Service]\nSyslogIdentifier=%p-%i\n",
				folder + "/unrelated@.service":                         "[Service]\nExecStart=sleep infinity\n",
				folder + "/default.target.wants/unrelated@one.service": "",
			},
		},
		{
			name: "a wrapper with blanks in its name", unit: "claw.service", enable: "claw.service",
			files: map[string]string{
				folder + "/claw.service": "[Service]\n" + user + "Environment=P=18789\nExecStart=\"/opt/my bot 100%%/start it.sh\" \"x y\"\n" + install,
				"/opt/my bot 100%/start it.sh": "#!/bin/bash\nset -eu\n# openclaw gateway\nexport FROM=\"a b\"\nBOT=\"/opt/my bot 100%/node_modules/openclaw/dist/index.js\"\n" +
					"exec " + nodePath + " \"$BOT\" gateway \\\n  --port \"${P:-1}\" \\\n  \"$@\"\n",
			},
		},
		{
			name: "units in another folder by a link", unit: "openclaw-gateway.service", enable: "openclaw-gateway.service", system: true,
			files: map[string]string{folder + "/openclaw-gateway.service": "[Service]\n" + user + "ExecStart=" + nodePath + " " + clawEntry + " gateway --port 18789\n" + install},
		},
		{
			name: "units on a file system of their own", unit: "openclaw-gateway.service", enable: "openclaw-gateway.service", user: true,
			files: map[string]string{folder + "/openclaw-gateway.service": "[Service]\nExecStart=" + nodePath + " " + clawEntry + " gateway --port 18789\n" + install},
		},
	} {
		if c.system && here.user || c.user && !here.user {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			inHome := func(path string) string { return strings.ReplaceAll(path, "$HOME", m.Home()) }
			if strings.HasPrefix(c.name, "units in another") {
				m.Run(t, "sh", "-euc", "mv /etc/systemd/system /srv/units; ln -s ../../srv/units /etc/systemd/system")
				m.Systemctl(t, "daemon-reload")
			}
			if c.user {
				root.Run(t, "mount", "-t", "tmpfs", "-o", "uid=1000,gid=1000,mode=755", "tmpfs", folder)
			}
			var all []string
			for path, content := range c.files {
				path, mode := inHome(path), os.FileMode(0o644)
				if strings.HasPrefix(content, "#!") {
					mode = 0o755
				}
				at := root
				if strings.HasPrefix(path, m.Home()+"/") {
					at = m
				}
				if content == "" {
					m.Run(t, "mkdir", "-p", filepath.Dir(path))
					m.Run(t, "ln", "-s", folder+"/unrelated@.service", path)
				} else {
					at.WriteFile(t, path, content, mode)
				}
				all = append(all, path)
			}
			for path, to := range c.links {
				m.Run(t, "ln", "-s", to, path)
				all = append(all, path)
			}
			m.Systemctl(t, "daemon-reload")
			m.Systemctl(t, "enable", inHome(c.enable))
			m.Systemctl(t, "start", c.unit)
			thereAndBack(t, m, ipv4, c.unit, "")
			m.Systemctl(t, "disable", "--now", c.unit)
			root.Run(t, "rm", append([]string{"-f"}, all...)...)
			m.Systemctl(t, "daemon-reload")
		})
	}
	if !here.user {
		t.Run("a user who is gone", func(t *testing.T) { testNoUser(t, m, folder) })
	}
}

// testNoUser: who has no account any more keeps nothing from being taken back, and is named.
func testNoUser(t *testing.T, m *machine.Machine, folder string) {
	missed := func(t *testing.T) {
		t.Helper()
		d := diagnose(t, m.Scope, gatewayPath)
		if d.ids() != "user-missing" || !strings.Contains(d.text(), "user gone, and there is no such user") || d.Findings[0].Fix != "gateway uninstall --system" {
			t.Errorf("doctor finds %s", d.text())
		}
		if text, exit := printedStatus(t, m.Scope); exit != 1 || !strings.HasPrefix(text, "degraded: ") || !strings.Contains(text, "user gone, and there is no such user") {
			t.Errorf("status: exit status %d\n%s", exit, text)
		}
	}
	m.Run(t, "useradd", "--create-home", "gone")
	install(t, m.Scope, m, worker(nodePath, clawEntry, "gateway", "--port", "18789"), "--run-as", "gone", "--external")
	m.Systemctl(t, "start", service)
	m.Run(t, "userdel", "--force", "gone")
	missed(t) // the launcher runs still
	m.Systemctl(t, "stop", service)
	missed(t)
	if output := m.Run(t, gatewayPath, "uninstall", "--system", "--all"); !strings.Contains(output, "removed "+folder+"/"+service) {
		t.Errorf("uninstall says:\n%s", output)
	}
	silent(t, m.Scope)
	m.Run(t, "rm", "-rf", "/etc/openclaw-gateway", "/home/gone")

	m.Run(t, "useradd", "--create-home", "gone")
	const text = "[Service]\nUser=gone\nExecStart=" + nodePath + " " + clawEntry + " gateway --port 18789\n[Install]\nWantedBy=default.target\n"
	m.WriteFile(t, folder+"/bot.service", text, 0o644)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "enable", "--now", "bot.service")
	awaitAnswer(t, m)
	m.Run(t, gatewayPath, "adopt", "--yes", "--system")
	m.Run(t, "userdel", "--force", "gone")
	missed(t)
	output, err := tried(t, m.Scope, gatewayPath, "adopt", "--undo")
	if flat := strings.Join(strings.Fields(output), " "); err != nil || !strings.Contains(flat, "/home/gone/.openclaw/.env is left as it is") ||
		!strings.Contains(flat, "bot.service is not started") || !strings.Contains(flat, "bot.service is as it was before") {
		t.Errorf("adopt --undo: %v\n%s", err, output)
	}
	if now := m.ReadFile(t, folder+"/bot.service"); now != text {
		t.Errorf("bot.service is now\n%s", now)
	}
	m.Systemctl(t, "disable", "bot.service")
	silent(t, m.Scope)
}
