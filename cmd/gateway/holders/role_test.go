package holders

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/worker/proctree"
)

// TestListening: each process that holds the address has the role that its
// command line and its descent prove.
func TestListening(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close(); listener.Close() })
	program, mark := "/proc/self/exe", ""
	start := func(argv ...string) int {
		t.Helper()
		cmd := exec.Command(program)
		cmd.Args, cmd.Env = argv, append(os.Environ(), childKey+"="+hold, "GORACE=atexit_sleep_ms=0", mark)
		cmd.ExtraFiles = []*os.File{file}
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { input.Close(); _ = cmd.Wait() })
		if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		return cmd.Process.Pid
	}
	const entry = "/nowhere/node_modules/openclaw/dist/index.js"
	want := map[int]Role{
		os.Getpid(): Launcher, // of the one with its mark
		start("node", entry, "gateway", "--port", "18789"): Orphan,
		start("openclaw-gateway", "", ""):                  Foreign, // no Node.js
		start("/opt/openclaw-gateway", "--port", "18789"):  Foreign,
		start("python3", "/srv/openclaw.py", "gateway"):    Foreign,
		start("node", entry, "gateway", "status"):          Foreign,
		start("/usr/local/bin/gateway", "run"):             Launcher, // the same program as this one
		start("systemd", "--user"):                         Foreign,  // anybody can write that
	}
	worker := start("node", entry, "gateway")
	want[worker] = Worker

	program = filepath.Join(t.TempDir(), "node")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	want[start("openclaw-gateway", "", "")] = Orphan
	// The worker of a launcher that lives, whatever program that is.
	launcher, err := proctree.Find(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	mark = fmt.Sprintf("GATEWAY_LAUNCHER=/run/some:where:%d:%d", launcher.PID, launcher.Start)
	want[start("node", entry, "gateway", "run")] = Worker
	mark = fmt.Sprintf("GATEWAY_LAUNCHER=/run/some:where:%d:%d", launcher.PID, launcher.Start+1)
	want[start("node", entry, "gateway", "run")] = Orphan // that one has ended

	sockets, _, err := Known{Worker: worker}.Listening(t.Context(), netip.MustParseAddrPort(listener.Addr().String()))
	if err != nil || len(sockets) != 1 || !sockets[0].Exact {
		t.Fatalf("%+v, %v", sockets, err)
	}
	for _, holder := range sockets[0].Holders {
		if holder.Role != want[holder.PID] {
			t.Errorf("%s is %s (%s), want %s", holder.Command, holder.Role, holder.Why, want[holder.PID])
		}
		reasoned := slices.Contains([]Role{Orphan, Rival, Foreign}, holder.Role)
		if reasoned == (holder.Why == "") {
			t.Errorf("%s is %s because of %q", holder.Command, holder.Role, holder.Why)
		}
		delete(want, holder.PID)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
}

// TestRemedy: what ends an orphan, what keeps a rival from coming back, and nothing
// for those who may hold the port.
func TestRemedy(t *testing.T) {
	t.Parallel()
	addresses := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:18789"), netip.MustParseAddrPort("[::1]:18789")}
	process := func(unit string, user bool) Holder {
		return Holder{Process: proctree.Process{PID: 4711}, UID: uint32(os.Geteuid()), InUnit: unit, UserUnit: user}
	}
	tests := []struct {
		role      Role
		in        Holder
		unit      string
		manager   systemd.Manager
		contained bool
		want      string
	}{
		{Orphan, process("left.service", false), "", systemd.Manager{}, false, "`gateway reclaim 127.0.0.1:18789 '[::1]:18789'` ends it"},
		{Rival, process("old.service", false), "old.service", systemd.Manager{}, false, "`systemctl disable --now old.service` ends it for good"},
		{Rival, process("", true), "old.service", systemd.Manager{User: true, UID: os.Geteuid()}, false, "`systemctl --user disable --now old.service` ends it for good"},
		{Foreign, process("web.service", false), "", systemd.Manager{}, false, "`systemctl stop web.service` stops it"},
		{Foreign, process("web.service", true), "", systemd.Manager{}, false, "`systemctl --user stop web.service` stops it"},
		{Foreign, process("session-3.scope", false), "", systemd.Manager{}, false, "`kill 4711` ends it"},
		{Foreign, process("", false), "", systemd.Manager{}, false, "`kill 4711` ends it"},
		{Foreign, process("docker.service", false), "", systemd.Manager{}, true, "stop its container, which would start it again"},
		{Worker, process("openclaw-gateway.service", false), "", systemd.Manager{}, false, ""},
		{Systemd, process("init.scope", false), "", systemd.Manager{}, false, ""},
	}
	for _, test := range tests {
		holder := test.in
		holder.Role, holder.Unit, holder.Manager, holder.contained = test.role, test.unit, test.manager, test.contained
		if got := holder.Remedy(addresses...); got != test.want {
			t.Errorf("%s in %q: %q, want %q", holder.Role, holder.InUnit, got, test.want)
		}
	}
}
