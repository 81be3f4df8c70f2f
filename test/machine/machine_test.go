package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const bound = 20 * time.Second

func TestBoot(t *testing.T) {
	for _, test := range []struct {
		name     string
		opts     Options
		services []string
	}{
		{"light", Options{}, []string{"systemd-journald.service"}},
		{"users", Options{Users: true}, []string{"dbus.service", "systemd-journald.service", "systemd-logind.service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			m := Boot(t, test.opts)
			t.Logf("booted in %v", time.Since(start))
			if state := m.Run(t, "systemctl", "is-system-running"); state != "running\n" {
				t.Errorf("the system is %q", state)
			}
			m.WaitUnit(t, "multi-user.target", bound, Active)
			var services []string
			for _, p := range m.Processes(t) {
				if unit, found := strings.CutPrefix(p.Cgroup, "/system.slice/"); found {
					services = append(services, unit)
				}
			}
			slices.Sort(services)
			if diff := cmp.Diff(test.services, services); diff != "" {
				t.Errorf("running services (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOverlayKeepsTheHostClean(t *testing.T) {
	m := Boot(t, Options{})
	const path = "/etc/machine-test/marker"
	m.WriteFile(t, path, "inside", 0o640)
	if got := m.Run(t, "stat", "--format=%a %U", path) + m.ReadFile(t, path); got != "640 root\ninside" {
		t.Errorf("the file is %q", got)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s on the host: %v", path, err)
	}
	if out, err := m.Output("sh", "-c", "echo 1 >/proc/sys/kernel/sysrq"); err == nil {
		t.Errorf("the machine may set the host's sysctls: %s", out)
	}
}

func TestPrepareEnablesAtBoot(t *testing.T) {
	m := Boot(t, Options{Prepare: func(m *Machine) {
		m.WriteFile(t, "/etc/systemd/system/early.service",
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/echo was here\n[Install]\nWantedBy=multi-user.target\n", 0o644)
		m.Run(t, "systemctl", "enable", "early.service")
	}})
	if u := m.Unit(t, "early.service"); u.ActiveState != "active" || u.SubState != "exited" {
		t.Errorf("early.service after the boot: %+v", u)
	}
	if journal := m.Journal(t, "early.service"); !strings.Contains(journal, "was here") {
		t.Errorf("the journal lacks what the unit wrote:\n%s", journal)
	}
}

func TestSocketActivation(t *testing.T) {
	m := Boot(t, Options{})
	m.WriteFile(t, "/etc/systemd/system/greet.socket", "[Socket]\nListenStream=127.0.0.1:18789\nListenStream=[::1]:18789\nAccept=yes\n", 0o644)
	m.WriteFile(t, "/etc/systemd/system/greet@.service", "[Service]\nExecStart=/bin/echo hello\nStandardOutput=socket\n", 0o644)
	m.Systemctl(t, "start", "greet.socket")
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	for _, address := range []string{"127.0.0.1:18789", "[::1]:18789"} {
		conn, err := m.DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if said, err := io.ReadAll(conn); string(said) != "hello\n" {
			t.Errorf("%s said %q, %v", address, said, err)
		}
	}
	if u := m.WaitUnit(t, "greet.socket", bound, Active); u.NAccepted != 2 {
		t.Errorf("after two connections: %+v", u)
	}
}

// notifyUnit is ready at once, says so in words, and is started again whenever it ends.
const notifyUnit = `[Service]
Type=notify
NotifyAccess=all
Restart=always
RestartSec=0
ExecStart=/bin/sh -c 'systemd-notify --ready --status="at your service"; while :; do sleep infinity; done' waiter
`

func TestWaitUnit(t *testing.T) {
	m := Boot(t, Options{})
	m.WriteFile(t, "/etc/systemd/system/wait.service", notifyUnit, 0o644)
	started := make(chan error, 1)
	go func() {
		_, err := m.Output("systemctl", "start", "wait.service")
		started <- err
	}()
	first := m.WaitUnit(t, "wait.service", bound, func(u Unit) bool { return Active(u) && u.StatusText == "at your service" })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	if got := m.Property(t, "wait.service", "MainPID"); got != fmt.Sprint(first.MainPID) || first.MainPID == 0 {
		t.Errorf("MainPID is %s for systemctl, %d for WaitUnit", got, first.MainPID)
	}
	processes := m.Processes(t)
	i := slices.IndexFunc(processes, func(p Process) bool { return p.PID == first.MainPID })
	if i < 0 {
		t.Fatalf("MainPID %d is not among %+v", first.MainPID, processes)
	}
	main := processes[i]
	if main.ParentPID != 1 || main.Cgroup != "/system.slice/wait.service" || !slices.Contains(main.Args, "waiter") {
		t.Errorf("the main process: %+v", main)
	}
	if err := syscall.Kill(main.HostPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.WaitUnit(t, "wait.service", bound, func(u Unit) bool { return Active(u) && u.NRestarts == 1 && u.MainPID != first.MainPID })

	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	seen, err := m.watch(ctx, "wait.service", func(u Unit) bool {
		cancel() // the bound, as soon as there is something to have seen
		return Inactive(u)
	})
	if !errors.Is(err, context.Canceled) || len(seen) != 1 || seen[0].NRestarts != 1 {
		t.Errorf("waiting for what does not come: %v, having seen %+v", err, seen)
	}
	// A unit that is not loaded gets there in one go.
	m.WriteFile(t, "/etc/systemd/system/once.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n", 0o644)
	go func() {
		_, err := m.Output("systemctl", "start", "once.service")
		started <- err
	}()
	m.WaitUnit(t, "once.service", bound, Active)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

func TestUserScope(t *testing.T) {
	// As a root's home often is: nobody else may enter.
	private := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(private, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nid -un\nexec sleep infinity\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := Boot(t, Options{Users: true, Binds: map[string]string{"/usr/local/bin/program": program}})
	alice, bob := m.AddUser(t, "alice"), m.AddUser(t, "bob")
	for _, user := range []*Scope{alice, bob} {
		m.WriteFile(t, user.Home()+"/.config/systemd/user/own.service", "[Service]\nExecStart=program\n", 0o644)
		user.Systemctl(t, "daemon-reload")
	}
	alice.Systemctl(t, "start", "own.service")
	u := alice.WaitUnit(t, "own.service", bound, Active)
	if got := alice.Property(t, "own.service", "MainPID"); got != fmt.Sprint(u.MainPID) {
		t.Errorf("MainPID is %s for systemctl, %d for WaitUnit", got, u.MainPID)
	}
	if journal := alice.Journal(t, "own.service"); !strings.Contains(journal, "Started own.service") {
		t.Errorf("the journal lacks the start:\n%s", journal)
	}
	if u := bob.Unit(t, "own.service"); u.ActiveState != "inactive" || u.LoadState != "loaded" {
		t.Errorf("the other user's unit: %+v", u)
	}
	if got, want := bob.Run(t, "sh", "-c", `echo $(id -u) $HOME $XDG_RUNTIME_DIR $PWD`), fmt.Sprintf("%d /home/bob /run/user/%d /\n", bob.UID, bob.UID); got != want {
		t.Errorf("a user's command sees %q, want %q", got, want)
	}
	if out, err := m.Output("sh", "-c", "echo >> /usr/local/bin/program"); err == nil {
		t.Errorf("the host's file can be written: %s", out)
	}
	// systemd-run talks to the bus.
	if got := alice.Run(t, "systemd-run", "--user", "--wait", "--pipe", "--quiet", "echo", "over the bus"); got != "over the bus\n" {
		t.Errorf("systemd-run: %q", got)
	}
}

func TestCommand(t *testing.T) {
	m := Boot(t, Options{})
	_, err := m.Output("sh", "-c", "echo why >&2; exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "why") {
		t.Errorf("a failing command: %v", err)
	}
	// The descendant survives a hang-up and has a session of its own; it must go all the same.
	ctx, cancel := context.WithCancel(context.Background())
	cmd := m.Command(ctx, "sh", "-c", "setsid sleep 12345 & echo started; wait")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended well in spite of the end of its context")
	}
	if err := awaitEmpty(filepath.Join(m.cgroup, commandsCgroup)); err != nil {
		t.Error(err)
	}
	for _, p := range m.Processes(t) {
		if strings.HasPrefix(p.Cgroup, "/"+commandsCgroup) {
			t.Errorf("left behind: %+v", p)
		}
	}
}

func TestNetworksAreSeparate(t *testing.T) {
	a, b := Boot(t, Options{}), Boot(t, Options{DisableIPv6: true})
	var listener net.Listener
	err := a.InNet(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	host := (&net.Dialer{}).DialContext
	for _, test := range []struct {
		name    string
		dial    func(context.Context, string, string) (net.Conn, error)
		address string
		want    error
	}{
		{"the machine that listens", a.DialContext, address, nil},
		{"the other", b.DialContext, address, unix.ECONNREFUSED},
		{"the host", host, address, unix.ECONNREFUSED},
		{"IPv6", a.DialContext, "[::1]:9", unix.ECONNREFUSED},
		{"no IPv6", b.DialContext, "[::1]:9", unix.EADDRNOTAVAIL},
	} {
		conn, err := test.dial(ctx, "tcp", test.address)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if err == nil {
			conn.Close()
		}
	}
	if _, err := a.DialContext(ctx, "tcp", "localhost:80"); err == nil {
		t.Error("a name was looked up")
	}
}

// stubborn leaves processes that ignore what can be ignored, in sessions of their own and in a cgroup that systemd knows
// nothing of.
const stubborn = `mkdir /sys/fs/cgroup/elsewhere && echo $$ >/sys/fs/cgroup/elsewhere/cgroup.procs || exit
trap "" TERM HUP INT
for i in 1 2 3; do setsid sleep infinity </dev/null >/dev/null 2>&1 & done`

func TestTearDownLeavesNothing(t *testing.T) {
	var cgroup string
	var processes []Process
	t.Run("machine", func(t *testing.T) {
		m := Boot(t, Options{})
		m.Run(t, "sh", "-c", stubborn)
		cgroup, processes = m.cgroup, m.Processes(t)
	})
	left := 0
	for _, p := range processes {
		if p.Cgroup == "/elsewhere" {
			left++
		}
		if err := syscall.Kill(p.HostPID, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("%+v is still there: %v", p, err)
		}
	}
	if left != 3 {
		t.Errorf("%d stubborn processes, want 3, were among %+v", left, processes)
	}
	if _, err := os.Stat(cgroup); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("cgroup %s: %v", cgroup, err)
	}
}

const victimVariable = "MACHINE_TEST_VICTIM"

// TestVictim is the test binary that TestTearDownWhenTheTestDies kills; by itself it has nothing to do.
func TestVictim(t *testing.T) {
	if os.Getenv(victimVariable) == "" {
		return
	}
	// What runs in the background of a shell ignores SIGINT.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		os.Exit(1)
	}()
	m := Boot(t, Options{})
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, keeper, _ := strings.Cut(string(content), "PPid:")
	fmt.Printf("victim %s %s\n", strings.Fields(keeper)[0], m.cgroup)
	select {}
}

func TestTearDownWhenTheTestDies(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			victim := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.v")
			victim.Env = append(os.Environ(), victimVariable+"=1")
			stdout, err := victim.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			var keeper int
			var cgroup, line string
			for keeper == 0 {
				if _, err := fmt.Fscanln(stdout, &line, &keeper, &cgroup); errors.Is(err, io.EOF) {
					t.Fatalf("the victim ended: %v", victim.Wait())
				}
			}
			pidfd, err := unix.PidfdOpen(keeper, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			if _, err := os.Stat(cgroup); err != nil {
				t.Fatal(err)
			}
			if err := victim.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = victim.Wait()
			for {
				poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
				n, err := unix.Poll(poll, int(bound.Milliseconds()))
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if err != nil || n == 0 {
					t.Fatalf("the keeper, pid %d, is still there after %v: %v", keeper, bound, err)
				}
				break
			}
			if _, err := os.Stat(cgroup); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("cgroup %s: %v", cgroup, err)
			}
		})
	}
}

func TestPlanSaysWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		opts Options
		want string
	}{
		{"no such file", Options{Binds: map[string]string{"/usr/local/bin/x": "/nonexistent/x"}}, "bind to /usr/local/bin/x: stat /nonexistent/x"},
		{"root without systemd", Options{Root: "/usr/share"}, "in /usr/share: install systemd"},
		{"relative root", Options{Root: "usr"}, `root "usr": overlayfs takes an absolute path`},
		{"relative", Options{Binds: map[string]string{"x": "/etc"}}, "both paths must be absolute"},
	} {
		if _, err := newPlan(test.opts); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// TestReboot has a machine come back with its disk, and without what was in memory.
func TestReboot(t *testing.T) {
	t.Parallel()
	m := Boot(t, Options{Users: true})
	m.WriteFile(t, "/etc/systemd/system/mark.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo boot >>/var/lib/boots'\n[Install]\nWantedBy=multi-user.target\n", 0o644)
	m.Systemctl(t, "enable", "--now", "mark.service")
	alice := m.AddUser(t, "alice")
	for boots, again := range []func(testing.TB){m.Reboot, m.CutPower} {
		m.Run(t, "touch", "/run/here", "/etc/here")
		before := strings.TrimSpace(m.Run(t, "cat", "/proc/1/stat"))
		again(t)
		if now := strings.TrimSpace(m.Run(t, "cat", "/proc/1/stat")); now == before {
			t.Errorf("PID 1 is the same: %s", now)
		}
		if got, want := m.Run(t, "cat", "/var/lib/boots"), strings.Repeat("boot\n", boots+2); got != want {
			t.Errorf("after boot %d the unit has written %q, want %q", boots+2, got, want)
		}
		m.Run(t, "test", "-e", "/etc/here")
		m.Run(t, "test", "!", "-e", "/run/here")
		m.WaitUnit(t, fmt.Sprintf("user@%d.service", alice.UID), bootBound, Active) // who lingers
		alice.Systemctl(t, "list-units")
	}
}
