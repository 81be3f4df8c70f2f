package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// TestUnreachable: an address that nobody can reach, or the launcher itself cannot, keeps no worker from serving on the
// others: without IPv6, which the default asks for; with an address that has not come yet, or comes later; on a device.
func TestUnreachable(t *testing.T) { inScopes(t, testUnreachable) }

func testUnreachable(t *testing.T, here place) {
	const absent = "10.9.9.9:18789"
	m := here.boot(t, machine.Options{DisableIPv6: true})
	const rest = "  start: at-once\nready: {timeout: 5s}\nstop: {timeout: 1s}\nrestart: {backoff_min: 20s, backoff_max: 30s}\n"
	python := worker("/usr/bin/python3", workersPath+"/listenfds.py") + rest
	generation := 0
	begin := func(t *testing.T, configuration string) {
		t.Helper()
		install(t, m.Scope, m, configuration)
		m.Systemctl(t, "restart", service)
		serving(t, m.Scope, 1)
		generation = gatewayStatus(t, m.Scope).Worker.Generation
	}
	want := func(t *testing.T, verdict string, words ...string) {
		t.Helper()
		s := gatewayStatus(t, m.Scope)
		said := strings.Join(slices.Concat(s.Notes, s.Problems), "\n")
		for _, word := range words {
			if !strings.Contains(said, word) {
				t.Errorf("the status does not say %q, but\n%s", word, said)
			}
		}
		if s.Verdict != verdict || s.Worker.Generation != generation || s.Worker.State != "ready" {
			t.Errorf("the status is %+v, want %s", s, verdict)
		}
	}
	wantAnswer := func(t *testing.T, address string) {
		t.Helper()
		if code, body := get(t, m, address, "/"); code != http.StatusOK {
			t.Errorf("%s answered %d %s", address, code, body)
		}
	}

	t.Run("preload without IPv6", func(t *testing.T) {
		// It looks first whether there is IPv6, as OpenClaw does; the error has no port.
		begin(t, worker(nodePath, "-e", `require('net').createServer().on('error', () => {
			require('http').createServer((request, response) => response.end('here')).listen(18789, '127.0.0.1')
		}).listen(0, '::1')`)+rest)
		wantAnswer(t, ipv4)
		want(t, "ok", "this machine does not have the address of "+ipv6+" now, and the worker does not listen there")
	})
	t.Run("listen-fds without IPv6", func(t *testing.T) {
		begin(t, python)
		wantAnswer(t, ipv4)
		want(t, "ok", "this machine does not have the address of "+ipv6+" now: nobody can connect to it")
	})
	t.Run("an address that comes", func(t *testing.T) {
		begin(t, fmt.Sprintf("listen: [%q, %q]\n", absent, ipv4)+strings.Replace(python, "timeout: 5s", "timeout: 5s, path: /", 1))
		wantAnswer(t, ipv4)
		want(t, "ok", "this machine does not have the address of "+absent)
		inNetwork(t, m, "ip", "address", "add", "10.9.9.9/32", "dev", "lo")
		defer inNetwork(t, m, "ip", "address", "del", "10.9.9.9/32", "dev", "lo")
		wantAnswer(t, absent)
		if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" || strings.Contains(strings.Join(s.Notes, "\n"), absent) {
			t.Errorf("the status is %+v", s)
		}
	})
	t.Run("a worker that falls back", func(t *testing.T) {
		// As OpenClaw does for --bind tailnet.
		begin(t, fmt.Sprintf("listen: [%q]\n", absent)+
			worker(nodePath, "-e", `require('http').createServer((request, response) => response.end('here')).listen(18789, '127.0.0.1')`)+rest)
		wantAnswer(t, ipv4)
		want(t, "ok", "this machine does not have the address of "+absent+" now, and the worker does not listen there: when it has, `gateway restart`")
		inNetwork(t, m, "ip", "address", "add", "10.9.9.9/32", "dev", "lo")
		defer inNetwork(t, m, "ip", "address", "del", "10.9.9.9/32", "dev", "lo")
		want(t, "degraded", "the worker does not listen on "+absent, "and has now: `gateway restart`")
	})
	t.Run("a device", func(t *testing.T) {
		inNetwork(t, m, "sh", "-c", `ip link add v0 type veth peer name v1 && ip address add 10.1.0.1/24 dev v0 &&
			ip link set v0 up && ip link set v1 up`)
		dropIn := "/etc/systemd/" + kind(m.Scope) + "/" + socket + ".d/device.conf"
		m.WriteFile(t, dropIn, "[Socket]\nBindToDevice=v0\n", 0o644)
		m.Systemctl(t, "daemon-reload")
		m.Systemctl(t, "stop", socket, service)
		begin(t, "listen: ['10.1.0.1:18789']\n"+python)
		want(t, "ok")
		// The other end of the wire is another host.
		inNetwork(t, m, "sh", "-c", `unshare --net sh -c '
			ip link set lo up; nsenter --net=/proc/'$$'/ns/net ip link set v1 netns $$ &&
			ip address add 10.1.0.2/24 dev v1 && ip link set v1 up && exec python3 -c "
import urllib.request
print(urllib.request.urlopen(\"http://10.1.0.1:18789/\", timeout=60).read())"'`)
		want(t, "ok")
		m.WriteFile(t, configPath(m.Scope), "listen: ['10.1.0.1:18789']\nalive: {path: /}\n"+python, 0o644)
		m.Run(t, gatewayPath, "reload")
		for end := time.Now().Add(bound); gatewayStatus(t, m.Scope).Verdict == "ok" && time.Now().Before(end); {
			continue // it is seen a moment later
		}
		want(t, "degraded", "alive.path is in vain, no request is made: no address of listen can be asked from here")
	})
}

// inNetwork runs a program of this machine in the network of the other.
func inNetwork(t *testing.T, m *machine.Machine, name string, arguments ...string) {
	t.Helper()
	output, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	err = m.InNet(func() error {
		command := exec.Command(name, arguments...)
		command.Stdout, command.Stderr = output, output
		return command.Run()
	})
	if err != nil {
		said, _ := os.ReadFile(output.Name())
		t.Fatalf("%s %q: %v\n%s", name, arguments, err, said)
	}
}

// TestNoIPv6: with a kernel that has no sockets of the family, for one of which systemd opens none of the unit.
func TestNoIPv6(t *testing.T) { onBoth(t, testNoIPv6) }

func testNoIPv6(t *testing.T, here place) {
	m := here.boot(t, machine.Options{NoIPv6: true})
	m.WriteFile(t, configPath(m.Scope), worker("/usr/bin/python3", workersPath+"/listenfds.py"), 0o644)
	command := m.Command(t.Context(), gatewayPath, "install", "--system", "--run-as", "root", "--now")
	if said, err := command.CombinedOutput(); err != nil || !strings.Contains(string(said), "this kernel has no IPv6: "+ipv6+" of listen is left out of the socket unit") {
		t.Fatalf("%v: %s", err, said)
	}
	check := func() {
		t.Helper()
		if code, body := get(t, m, ipv4, "/"); code != http.StatusOK {
			t.Errorf("%d %s", code, body)
		}
		serving(t, m.Scope, 1)
		wantStatus(t, m.Scope, 0, "ok")
		silent(t, m.Scope)
	}
	check()

	t.Run("installed before", func(t *testing.T) {
		m.Systemctl(t, "stop", socket, service)
		m.Run(t, "sed", "-i", "s/^ListenStream=.*/&\\nListenStream="+ipv6+"/", unitPath(m.Scope, socket))
		m.Systemctl(t, "daemon-reload")
		if _, err := m.Output("systemctl", "start", socket); err == nil {
			t.Fatal("systemd opens the socket unit with an address that the kernel cannot have")
		}
		f := finds(t, m.Scope, "socket-port-taken")
		if !strings.Contains(f.Summary, "this kernel has no IPv6, and "+ipv6+" is among them") {
			t.Errorf("%q", f.Summary)
		}
		mend(t, m.Scope, f, "gateway install --system --now")
		check()
	})
	t.Run("nothing else", func(t *testing.T) {
		m.WriteFile(t, configPath(m.Scope), "listen: ['[::1]:18789']\n", 0o644)
		_, err := m.Output(gatewayPath, "install", "--system")
		if err == nil || !strings.Contains(err.Error(), "this kernel has no IPv6, and listen is "+ipv6+": add an IPv4 address, such as 127.0.0.1:18789") {
			t.Errorf("%v", err)
		}
	})
}
