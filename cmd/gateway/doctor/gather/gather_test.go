package gather

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/kernel"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

func TestNewUnit(t *testing.T) {
	t.Parallel()
	unit := newUnit(systemd.Properties{
		"Id": "claw.service", "LoadState": "loaded", "MainPID": "812", "Delegate": "yes", "NeedDaemonReload": "no",
		"ExecStart":   "/usr/bin/node\n/my x/dist/index.js\ngateway\n--port=18790",
		"Environment": "HOME=/home/claw\nOPENCLAW_GATEWAY_PORT=1\nOPENCLAW_SERVICE_MARKER=openclaw",
		"Listen":      "127.0.0.1:18789 (Stream)\n[::1]:18789 (Stream)\n0.0.0.0:53 (Datagram)\n/run/x.sock (Stream)",
		"Backlog":     "4096",
	})
	want := Unit{
		Name: "claw.service", LoadState: "loaded", MainPID: 812, Delegate: true, Marked: true, Port: 18790, Backlog: 4096,
		Argv: []string{"/usr/bin/node", "/my x/dist/index.js", "gateway", "--port=18790"}, Listen: []netaddr.Address{netaddr.MustParse("127.0.0.1:18789"), netaddr.MustParse("[::1]:18789"), netaddr.Unix("/run/x.sock")},
	}
	if diff := cmp.Diff(want, unit, cmp.Comparer(func(a, b netaddr.Address) bool { return a == b })); diff != "" {
		t.Errorf("the unit is another (-want +got):\n%s", diff)
	}
	if argv := newUnit(systemd.Properties{}).Argv; len(argv) > 0 {
		t.Errorf("no ExecStart: %q", argv)
	}
}

// TestStartsOpenClaw: our own unit is none, also where OpenClaw has written it.
func TestStartsOpenClaw(t *testing.T) {
	claw := fixtures.OpenClaw(t)
	for line, want := range map[string]bool{
		"/usr/bin/node " + claw + " gateway --port 18789": true,
		"/usr/bin/node " + claw + " gateway status":       false,
		"/usr/local/bin/gateway run":                      false,
	} {
		if got := startsOpenClaw(Unit{LoadState: "loaded", Argv: strings.Fields(line)}); got != want {
			t.Errorf("%s: %t, want %t", line, got, want)
		}
	}
	wrapper := Unit{LoadState: "loaded", Marked: true, Argv: []string{"/usr/local/bin/gateway", "gateway", "--port", "18789"}}
	if startsOpenClaw(wrapper) {
		t.Error("the launcher as OpenClaw's wrapper counts as OpenClaw without the launcher")
	}
	script := filepath.Join(t.TempDir(), "wrapper")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec node "+claw+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	wrapper.Argv[0] = script
	if !startsOpenClaw(wrapper) || wrapper.RunsLauncher() {
		t.Error("a script as OpenClaw's wrapper counts as the launcher")
	}
	wrapper.Argv = []string{"/opt/start-it"}
	if !startsOpenClaw(wrapper) {
		t.Error("OpenClaw's marker does not count")
	}
}

// TestExposed: what counts is whether others get there, and secrets are in it.
func TestExposed(t *testing.T) {
	// Everybody gets to /tmp, which a TMPDIR of one's own need not offer.
	folder, err := os.MkdirTemp("/tmp", "exposed")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	look := func(environment []string, file string, mode os.FileMode) []Exposed {
		s := &Scope{Config: Config{Path: write("config.yaml", "{}", mode), Loaded: config.Default()}}
		s.Config.Loaded.Worker.Environment, s.Config.Loaded.Worker.EnvironmentFile = environment, file
		(&gatherer{facts: &Facts{}}).exposed(s)
		return s.Config.Exposed
	}
	secret := []string{"HOME=/", "OPENCLAW_GATEWAY_TOKEN=hunter2"}
	if got := look(secret, "", 0o644); len(got) != 1 || !slices.Equal(got[0].Names, []string{"OPENCLAW_GATEWAY_TOKEN"}) {
		t.Errorf("a configuration that everybody can read: %+v", got)
	}
	if got := look(secret, "", 0o640); len(got) > 0 {
		t.Errorf("a configuration for a group: %+v", got)
	}
	if got := look([]string{"HOME=/"}, "", 0o644); len(got) > 0 {
		t.Errorf("a configuration without secrets: %+v", got)
	}
	file := write("private/secret.env", "API_KEY=hunter2\n", 0o644)
	if got := look(nil, "-"+file, 0o600); len(got) != 1 || got[0].Path != file {
		t.Errorf("an environment file that everybody can read: %+v", got)
	}
	if err := os.Chmod(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := look(nil, file, 0o600); len(got) > 0 {
		t.Errorf("an environment file that nobody else gets to: %+v", got)
	}
}

// TestKernel: the tests need a kernel that has everything, so that nothing may be
// missed on it; what is asked of it in the right way, it says.
func TestKernel(t *testing.T) {
	g := &gatherer{facts: &Facts{}}
	g.kernel()
	if f := g.facts; len(f.KernelLacks) > 0 || f.Kernel == "" || f.Somaxconn == 0 || len(f.Unknown) > 0 {
		t.Errorf("the kernel is %+v", f)
	}
	if !kernel.HasSeccompNotify() {
		t.Error("no seccomp user notification")
	}
}

// launcherAt looks for a launcher of the system's scope.
func launcherAt(t *testing.T, path string) (*Scope, []Unknown) {
	g := &gatherer{facts: &Facts{}, Options: Options{control: func(bool, instance.Name) string { return path }}}
	s := &Scope{Name: units.System}
	g.launcher(t.Context(), s)
	return s, g.facts.Unknown
}

// TestOthersUnknown: what is not known of another user's scope does not count, whether the child says so or there is none.
func TestOthersUnknown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to look as another user: make test")
	}
	for uid, want := range map[int]string{65534: "has no service manager", 4_000_000: "could not be looked at"} { // the second is nobody's
		g := &gatherer{facts: &Facts{}, Options: Options{User: true}}
		g.as(t.Context(), &Scope{Name: units.User, Manager: systemd.Manager{User: true, UID: uid}}, unitsStep)
		if u := g.facts.Unknown; len(u) != 1 || !strings.Contains(u[0].What, want) || u[0].Essential {
			t.Errorf("of uid %d it is not known: %+v", uid, u)
		}
	}
}

// TestLauncherAnswers tells the ways in which a launcher does not answer.
func TestLauncherAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	if s, unknown := launcherAt(t, path); s.Answer != Absent || len(unknown) > 0 {
		t.Errorf("no socket: %q, %v", s.Answer, unknown)
	}
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan http.HandlerFunc, 1)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (<-answer)(w, r) })}
	go func() { _ = server.Serve(socket) }()
	defer server.Close()
	answer <- func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }
	if s, _ := launcherAt(t, path); s.Answer != Answered || s.Launcher == nil ||
		s.Launcher.Launcher.PID != os.Getpid() || s.Listener != (Listener{PID: os.Getpid(), UID: os.Geteuid()}) {
		t.Errorf("an answer: %+v", s)
	}
	answer <- func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	if s, _ := launcherAt(t, path); s.Answer != Hung || s.Launcher != nil {
		t.Errorf("no answer: %+v", s)
	}
	answer <- func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "refused", http.StatusTeapot) }
	if s, unknown := launcherAt(t, path); s.Answer != "" || len(unknown) != 1 || !unknown[0].Essential {
		t.Errorf("an error: %+v, %v", s, unknown)
	}
}

// TestLauncherClaims: who listens on a control socket is what the kernel says, because
// the fix of a finding may be to kill that process.
func TestLauncherClaims(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to have a directory of somebody else: make test")
	}
	path := filepath.Join(t.TempDir(), "control.sock")
	refused := func(t *testing.T, why string) {
		t.Helper()
		s, unknown := launcherAt(t, path)
		if s.Launcher != nil || s.Answer != "" || s.Listener != (Listener{}) || len(unknown) != 1 || !unknown[0].Essential || !strings.Contains(unknown[0].What, why) {
			t.Errorf("got %+v, %v, want that it is not asked: %s", s, unknown, why)
		}
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(socket), path)
	defer file.Close()
	if err := errors.Join(unix.Bind(socket, &unix.SockaddrUnix{Name: path}), unix.Listen(socket, 8)); err != nil {
		t.Fatal(err)
	}
	listening, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	listening.(*net.UnixListener).SetUnlinkOnClose(false)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"launcher":{"pid":1,"holder":"self"},"worker":{"pid":%d}}`, os.Getppid())
	})}
	go func() { _ = server.Serve(listening) }()
	defer server.Close()
	if s, unknown := launcherAt(t, path); s.Launcher == nil || s.Launcher.Launcher.PID != os.Getpid() || len(unknown) > 0 {
		t.Errorf("one that says that it is pid 1: %+v, %v", s, unknown)
	} else if s.Launcher.Worker.PID != 0 || s.Worker.Cgroup != "" {
		t.Errorf("a process that does not descend from it is its worker: %+v", s.Worker)
	}
	t.Run("another user", func(t *testing.T) {
		fixtures.As(t, 65534, func() { err = unix.Listen(socket, 8) }) // whose it is from now on
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "a process of user nobody listens on "+path)
	})
	t.Run("gone", func(t *testing.T) {
		// The kernel takes note of whoever calls listen(2).
		cmd := exec.Command(os.Args[0], "-test.run=^TestListenHelper$")
		cmd.Env, cmd.ExtraFiles = append(os.Environ(), listenHelper+"=1"), []*os.File{file}
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		refused(t, "has gone")
	})
}

const listenHelper = "GATHER_TEST_LISTEN"

// TestListenHelper is the process that listens on the socket of TestLauncherClaims.
func TestListenHelper(t *testing.T) {
	if os.Getenv(listenHelper) == "" {
		return
	}
	if err := unix.Listen(3, 8); err != nil {
		t.Fatal(err)
	}
}

// TestListenerStopped: of a launcher that was stopped with Ctrl-Z it is said.
func TestListenerStopped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	address, err := net.ResolveUnixAddr("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := net.ListenUnix("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	file, err := bound.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStopHelper$")
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), listenHelper+"=1"), []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	if _, err := unix.Wait4(cmd.Process.Pid, nil, unix.WUNTRACED, nil); err != nil {
		t.Fatal(err)
	}
	at, err := client.Target{Control: path}.Reach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if l, err := listenerOf(at); err != nil || l != (Listener{PID: cmd.Process.Pid, UID: os.Geteuid()}) || !proctree.Stopped(l.PID) {
		t.Errorf("got %+v, %v; stopped: %t", l, err, proctree.Stopped(l.PID))
	}
}

// TestStopHelper listens on the socket of TestListenerStopped, and stops itself.
func TestStopHelper(t *testing.T) {
	if os.Getenv(listenHelper) == "" {
		return
	}
	if err := errors.Join(unix.Listen(3, 8), unix.Kill(os.Getpid(), unix.SIGSTOP)); err != nil {
		t.Fatal(err)
	}
}

// TestProgram: the worker's program is found as the launcher finds it, the version of Node.js only where it runs OpenClaw,
// and no program is executed.
func TestProgram(t *testing.T) {
	folder := t.TempDir()
	bin, executed := filepath.Join(folder, "bin"), filepath.Join(folder, "executed")
	node, header := filepath.Join(bin, "node"), filepath.Join(folder, "include/node/node_version.h")
	for path, content := range map[string]string{
		node: "#!/bin/sh\ntouch " + executed + "\n", header: "#define NODE_MAJOR_VERSION 24\n#define NODE_MINOR_VERSION 21\n#define NODE_PATCH_VERSION 0\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	claw := fixtures.OpenClaw(t)
	look := func(command ...string) (Config, []Unknown) {
		s := &Scope{Name: units.User, Manager: systemd.Manager{User: true, UID: os.Geteuid()}, Config: Config{Loaded: config.Default()}}
		s.Config.Loaded.Worker.Command = command
		s.Config.Loaded.Worker.Environment = []string{"PATH=" + bin}
		g := &gatherer{facts: &Facts{}}
		g.program(s)
		return s.Config, g.facts.Unknown
	}
	if c, unknown := look("node", claw, "gateway"); c.Node.Version != "24.21.0" || c.Node.Program != node || len(unknown) > 0 {
		t.Errorf("OpenClaw: %+v, %v", c.Node, unknown)
	}
	if c, unknown := look("/usr/bin/nice", node, claw, "gateway"); c.Node.Version != "24.21.0" || c.Node.Program != node || len(unknown) > 0 {
		t.Errorf("OpenClaw behind nice: %+v, %v", c.Node, unknown)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(filepath.Dir(claw)), "package.json"), []byte(`{"name": "openclaw", "version": "2026.9.6"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if c, unknown := look("/bin/sh", "-c", ". ~/.nvm/nvm.sh; node "+claw+" gateway"); c.Node.OpenClaw != "2026.9.6" || c.Node.Program != "" || c.Missing != "" || len(unknown) > 0 {
		t.Errorf("OpenClaw on a Node.js that its shell chooses: %+v, %q, %v", c.Node, c.Missing, unknown)
	}
	if c, unknown := look("/usr/bin/nice", "node", "/gone/node_modules/openclaw/dist/index.js", "gateway"); c.Missing != "" || len(unknown) > 0 {
		t.Errorf("an entry file that is perhaps on its way: %q, %v", c.Missing, unknown)
	}
	shim := filepath.Join(bin, "openclaw")
	if err := os.WriteFile(shim, []byte("#!/bin/sh\nexec node "+claw+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if c, unknown := look("/usr/bin/nice", "openclaw", "gateway"); c.Missing != "" || len(unknown) > 0 {
		t.Errorf("a shim behind nice: %q, %v", c.Missing, unknown)
	}
	if c, _ := look("node", folder+"/gone.js"); !strings.Contains(c.Missing, "gone.js, which is not there") || c.MissingAt != "worker.command" {
		t.Errorf("a script that is not there: %q", c.Missing)
	}
	if c, _ := look("node", folder+"/app/dist/index.js", "gateway", "run"); !strings.Contains(c.Missing, "/app/dist/index.js, which is not there") {
		t.Errorf("one that may be OpenClaw's by its arguments alone: %q", c.Missing)
	}
	for directory, want := range map[string]string{shim: "is not a directory", folder + "/gone": "is not there", folder: ""} {
		s := &Scope{Name: units.User, Manager: systemd.Manager{User: true, UID: os.Geteuid()}, Config: Config{Loaded: config.Default()}}
		s.Config.Loaded.Worker.Directory = directory // of the built-in server
		(&gatherer{facts: &Facts{}}).program(s)
		if c := s.Config; want == "" && c.Missing != "" || want != "" && (c.Missing != directory+" "+want || c.MissingAt != "worker.directory") {
			t.Errorf("in %s: %q, want %q", directory, c.Missing, want)
		}
	}
	if c, unknown := look("node", header); c.Node.Version != "" || c.Missing != "" || len(unknown) > 0 {
		t.Errorf("another server: %+v, %v", c, unknown)
	}
	if c, _ := look("no-such-program"); !strings.Contains(c.Missing, "no-such-program") {
		t.Errorf("a program that is not there: %q", c.Missing)
	}
	if c, _ := look("node", "/gone/node_modules/openclaw/dist/index.js", "gateway"); !strings.Contains(c.Missing, "/gone") {
		t.Errorf("an entry file that is not there: %q", c.Missing)
	}
	if err := os.Remove(header); err != nil {
		t.Fatal(err)
	}
	if c, unknown := look("node", claw, "gateway"); c.Node.Version != "" || len(unknown) != 1 || unknown[0].Essential {
		t.Errorf("a Node.js of an unknown version: %+v, %v", c.Node, unknown)
	}
	if _, err := os.Stat(executed); err == nil {
		t.Error("the program was executed")
	}
}

// TestUnitOverlaps: of two IPv6 wildcards' families each may be one or both.
func TestUnitOverlaps(t *testing.T) {
	for _, test := range []struct {
		own      string
		ipv6Only bool
		other    string
		dual     bool
		want     bool
	}{
		{"127.0.0.1:1", true, "127.0.0.1:1", false, true},
		{"127.0.0.1:1", true, "127.0.0.1:2", false, false},
		{"127.0.0.1:1", true, "[::]:1", false, false},
		{"127.0.0.1:1", true, "[::]:1", true, true},
		{"127.0.0.1:1", true, "[::]:2", true, false},
		{"[::1]:1", true, "[::]:1", false, true},
		{"[::1]:1", true, "0.0.0.0:1", true, false},
		{"[::]:1", true, "0.0.0.0:1", false, false},
		{"[::]:1", false, "0.0.0.0:1", false, true},
		{"[::]:1", false, "127.0.0.1:1", false, true},
	} {
		unit := Unit{Listen: []netaddr.Address{netaddr.MustParse(test.own)}, IPv6Only: test.ipv6Only}
		if got := unit.Overlaps(netaddr.MustParse(test.other), test.dual); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}
