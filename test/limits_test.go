package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// TestSocketDropIn: what a drop-in of the socket unit says of queue and name holds in every generation, and a narrow limit of
// descriptors is enough for eight addresses.
func TestSocketDropIn(t *testing.T) { inScopes(t, testSocketDropIn) }

func testSocketDropIn(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	inNetwork(t, m, "sysctl", "-q", "-w", "net.core.somaxconn=65535")
	var addresses []string
	for i := range 8 {
		addresses = append(addresses, fmt.Sprintf("127.0.0.%d:18789", i+1))
	}
	socketDropIn := func(lines string) {
		t.Helper()
		m.WriteFile(t, fmt.Sprintf("/etc/systemd/%s/%s.d/test.conf", kind(m.Scope), socket), "[Socket]\n"+lines, 0o644)
		m.Systemctl(t, "daemon-reload")
	}
	socketDropIn("Backlog=20000\nFileDescriptorName=web\n")
	dropIn(t, m, "LimitNOFILE=1024\n")
	encoded, err := json.Marshal(addresses)
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("listen: %s\n", encoded)
	install(t, m.Scope, m, listen+worker(nodePath, "-e",
		"for (const [, host] of process.argv.entries()) if (host.startsWith('127')) require('http').createServer((q, a) => a.end('here')).listen(18789, host)",
		"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8"))
	check := func(generation, backlog int) {
		t.Helper()
		for _, address := range addresses {
			if code, body := get(t, m, address, "/"); code != http.StatusOK {
				t.Errorf("%s answered %d %s", address, code, body)
			}
		}
		serving(t, m.Scope, generation)
		s := gatewayStatus(t, m.Scope)
		for _, line := range s.Sockets {
			if line.Backlog != backlog {
				t.Errorf("%d clients can wait on %s, want %d", line.Backlog, line.Address, backlog)
			}
		}
		if len(s.Sockets) != len(addresses) || s.Worker.State != "ready" {
			t.Errorf("the status is %+v", s)
		}
		if m.User == "" && backlog > 4096 { // a shorter one is named
			silent(t, m.Scope)
		}
	}
	check(1, 20000)
	m.Run(t, gatewayPath, "restart")
	check(2, 20000)

	// Fewer than the launcher's own number, and a worker that makes less of them (socketserver listens with 5).
	socketDropIn("Backlog=300\nFileDescriptorName=web\n")
	m.WriteFile(t, configPath(m.Scope), listen+worker("/usr/bin/python3", workersPath+"/listenfds.py"), 0o644)
	m.Systemctl(t, "stop", socket, service)
	m.Systemctl(t, "start", socket)
	check(1, 300)
	_, body := get(t, m, ipv4, "/environment")
	if want := strings.TrimSuffix(strings.Repeat("web:", 8), ":"); !strings.Contains(body, `"LISTEN_FDNAMES": "`+want+`"`) {
		t.Errorf("LISTEN_FDNAMES is not %s in %s", want, body)
	}
	m.Run(t, gatewayPath, "restart")
	check(2, 300)
}

// TestIdleStopOfVanished: a client whose host has gone without a word keeps no worker.
func TestIdleStopOfVanished(t *testing.T) { inScopes(t, testIdleStopOfVanished) }

func testIdleStopOfVanished(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	inNetwork(t, m, "sysctl", "-q", "-w", "net.ipv4.tcp_keepalive_time=1", "net.ipv4.tcp_keepalive_intvl=1", "net.ipv4.tcp_keepalive_probes=1")
	// The client has an address of its own on loopback; that goes, and with it all that is sent to it.
	inNetwork(t, m, "ip", "address", "add", "10.9.9.9/32", "dev", "lo")
	install(t, m.Scope, m, worker(nodePath, "-e", "for (const host of ['127.0.0.1', '::1']) require('net').createServer(() => {}).listen(18789, host)")+"  idle_stop: 1s\n")
	var client net.Conn
	err := m.InNet(func() (err error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.9.9.9")}, KeepAlive: -1}
		client, err = dialer.Dial("tcp", ipv4)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	serving(t, m.Scope, 1)
	inNetwork(t, m, "sh", "-c", "ip rule add from 127.0.0.1 to 10.9.9.9 blackhole && ip address del 10.9.9.9/32 dev lo")
	atRest(t, m)
}
