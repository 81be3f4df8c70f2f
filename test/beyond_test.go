package test

import (
	"bufio"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestBeyondNamespaces: what is printed where whoever asks cannot see who it is, pasted where it says.
func TestBeyondNamespaces(t *testing.T) { onBoth(t, testBeyondNamespaces) }

func testBeyondNamespaces(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	const path = "/run/app.sock"
	install(t, m.Scope, m, "listen: [\""+ipv4+"\", \"unix:"+path+"\"]\n"+worker("/usr/bin/python3", workersPath+"/listenfds.py"))
	m.Systemctl(t, "stop", socket, service)

	// Root in a container has the network of its host, and not its processes.
	inside := []string{"--pid", "--fork", "--mount-proc"}
	t.Run("ss", func(t *testing.T) {
		defer occupy(t, m, ipv4)()
		output, _ := m.Output("unshare", append(inside, gatewayPath, "doctor", "--json")...)
		var d diagnosis
		if err := json.Unmarshal([]byte(output[:strings.LastIndex(output, "}")+1]), &d); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.ID == "port-holder-unseen" })
		if i < 0 || d.Findings[i].Fix != "ss -tanp 'sport = :18789'" {
			t.Fatalf("the doctor says\n%s", d.text())
		}
		if shown := m.Run(t, "sh", "-c", d.Findings[i].Fix); !strings.Contains(shown, ipv4) || !strings.Contains(shown, `"python3",pid=`) {
			t.Errorf("%s shows\n%s", d.Findings[i].Fix, shown)
		}
	})
	t.Run("ss of a unix socket", func(t *testing.T) {
		defer holder(t, m, "/usr/bin/python3", "-u", "-c",
			"import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind('"+path+"'); s.listen(); print('listening'); sys.stdin.read()")()
		output, err := m.Output("unshare", append(inside, gatewayPath, "reclaim", "--dry-run", "unix:"+path)...)
		command := "ss -xlp 'src " + path + "'"
		if err == nil || !strings.Contains(err.Error(), "`"+command+"`") {
			t.Fatalf("gateway reclaim says %s, %v", output, err)
		}
		if shown := m.Run(t, "sh", "-c", command); !strings.Contains(shown, path) || !strings.Contains(shown, `"python3",pid=`) {
			t.Errorf("%s shows\n%s", command, shown)
		}
	})
	t.Run("nsenter", func(t *testing.T) {
		// A launcher in a network of its own, as a container has one.
		run := m.Command(t.Context(), "unshare", "--net", "sh", "-c", "ip link set lo up; exec "+gatewayPath+" run")
		printed, err := run.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(printed).ReadString('\n'); err != nil {
			t.Fatalf("gateway run printed %q, %v", line, err)
		}
		pid := strconv.Itoa(gatewayStatus(t, m.Scope).Launcher.PID)
		const away = "is in another network namespace, whose sockets are not seen from here"
		command := "nsenter --net=/proc/" + pid + "/ns/net gateway doctor"
		d := diagnose(t, m.Scope, gatewayPath)
		if !slices.ContainsFunc(d.Unknown, func(text string) bool { return strings.Contains(text, away+": "+command) }) {
			t.Errorf("the doctor says\n%s", d.text())
		}
		// It exits with 1, for a launcher by hand is in the unit's way.
		seen := m.Run(t, "sh", "-c", command+"; test $? = 1")
		if strings.Contains(seen, away) || !strings.Contains(seen, "a launcher was started by hand, pid "+pid) {
			t.Errorf("there it says\n%s", seen)
		}
		m.Run(t, "kill", pid)
		if err := run.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestEditFull: the unit is the person's to correct, who is sent to the line.
func TestEditFull(t *testing.T) { onBoth(t, testEditFull) }

func testEditFull(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "{}\n")
	const wrong = "/opt/openclaw/dist/index.js"
	m.WriteFile(t, "/opt/openclaw/package.json", `{"name": "openclaw", "version": "1"}`, 0o644)
	m.WriteFile(t, wrong, "", 0o644)
	unit := m.ReadFile(t, "/etc/systemd/system/"+service)
	m.WriteFile(t, "/etc/systemd/system/"+service, strings.Replace(unit, "ExecStart="+gatewayPath+" run", "ExecStart="+gatewayPath+" gateway "+wrong, 1), 0o644)
	m.Systemctl(t, "daemon-reload")
	d := diagnose(t, m.Scope, gatewayPath)
	i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.ID == "launcher-name" })
	if i < 0 || d.Findings[i].Fix != "systemctl edit --full "+service {
		t.Fatalf("the doctor says\n%s", d.text())
	}
	// At a terminal, with an editor that does what is said there.
	m.WriteFile(t, "/tmp/editor", "#!/bin/sh -e\nfor file; do sed -i 's| gateway "+wrong+"| run|' \"$file\"; done\n", 0o755)
	m.Run(t, "env", "SYSTEMD_EDITOR=/tmp/editor", "script", "--quiet", "--return", "--command", d.Findings[i].Fix, "/dev/null")
	silent(t, m.Scope)
}
