package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"openclaw-gateway/test/wait"
)

const (
	bootBound = 2 * time.Minute
	// tearDownBound is far above what killing a cgroup takes, for machines with thousands of processes.
	tearDownBound = 30 * time.Second
)

// Options says how a machine differs from the default: multi-user.target with journald and nothing else.
type Options struct {
	// Root is a directory on the host with the file system that the machine sees instead of the host's: another distribution's,
	// say. Nothing is written there.
	Root string
	// Users starts dbus and logind too, which user managers ([Machine.AddUser]) and systemd-run need.
	Users bool
	// Binds shows host files and directories, keyed by their path in the machine, read-only. Put a program below
	// /usr/local/bin: there an unprivileged user reaches it even when its directory on the host is root's alone.
	Binds map[string]string
	// DisableIPv6 leaves the machine without IPv6 addresses, as the sysctl net.ipv6.conf.all.disable_ipv6 does. (Sockets of
	// the family can still be made; a kernel booted with ipv6.disable=1 refuses even that.)
	DisableIPv6 bool
	// NoIPv6 has a kernel refuse each socket of that family, with EAFNOSUPPORT. Sandboxes such as gVisor's may do so; one booted
	// with ipv6.disable=1 has no /proc/net/if_inet6 besides.
	NoIPv6 bool
	// Prepare runs when the file systems are mounted and systemd has not started yet: for units enabled at boot. Files and
	// Command work in it, systemctl only where it needs no manager ("systemctl enable").
	Prepare func(*Machine)
}

// Machine is a booted systemd. Its Scope is the system's manager, unless [Machine.As] has chosen a user's.
type Machine struct {
	*Scope
	*life
	lifeline *lifeline
	noIPv6   bool
	console  *console
	commands *atomic.Int64
}

// life is what is another with each boot.
type life struct {
	pid    int    // of systemd, as the host counts
	cgroup string // the directory that is / in the machine
	netns  *os.File
}

// As is the same machine with another of its scopes: what a test asks of it, that scope's manager and user do. So a test
// that is written for a machine holds for a user as it does for the system.
func (m *Machine) As(s *Scope) *Machine {
	as := *m
	as.Scope = s
	return &as
}

// System is the scope of the system's manager, whose commands run as root.
func (m *Machine) System() *Scope { return m.machine.Scope }

// Boot starts a machine and returns when systemd has finished its start-up. The machine ends with the test. When the
// test has failed by then, the journal of the openclaw-gateway units and systemctl status are logged first.
func Boot(t testing.TB, opts Options) *Machine {
	t.Helper()
	plan, err := newPlan(opts)
	if err != nil {
		t.Fatalf("boot a machine: %v", err)
	}
	m := &Machine{life: new(life), commands: new(atomic.Int64), noIPv6: opts.NoIPv6}
	m.Scope = &Scope{machine: m}
	if m.console, err = openConsole(); err != nil {
		t.Fatalf("boot a machine: %v", err)
	}
	t.Cleanup(m.console.close)
	plan.Console = m.console.path

	k, err := startKeeper(plan, m.console.slave)
	if err != nil {
		t.Fatalf("boot a machine: %v", err)
	}
	t.Cleanup(func() {
		if err := k.end(); err != nil {
			t.Errorf("tear down the machine: %v\nconsole:\n%s", err, m.console)
		}
	})
	m.lifeline = k
	t.Cleanup(func() { m.netns.Close() })
	// Cleanups run last in, first out: this one sees the machine alive.
	t.Cleanup(func() {
		m.cost(t)
		if t.Failed() {
			m.report(t)
		}
	})
	m.start(t, opts.Prepare)
	return m
}

// start has PID 1 become systemd as soon as the file systems are there, and returns when that has finished its start-up.
func (m *Machine) start(t testing.TB, prepare func(*Machine)) {
	t.Helper()
	fail := func(step string, err error) {
		t.Helper()
		t.Fatalf("boot a machine: %s: %v\nconsole:\n%s", step, err, m.console)
	}
	if err := m.lifeline.awaitMounts(m, bootBound); err != nil {
		fail("mount its file systems", err)
	}
	m.netns.Close()
	var err error
	if m.netns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid)); err != nil {
		fail("open its network namespace", err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.Root() + notifyPath, Net: "unixgram"})
	if err != nil {
		fail("listen for its readiness", err)
	}
	defer notify.Close()
	if prepare != nil {
		prepare(m)
	}
	if err := m.lifeline.release(notify, bootBound); err != nil {
		fail("wait until it is up", err)
	}
}

// Reboot has systemd shut the machine down and boots it again, with its disk as it is then. What was in /run and /tmp is gone.
func (m *Machine) Reboot(t testing.TB) {
	t.Helper()
	m.System().Systemctl(t, "reboot", "--no-block")
	m.pid = 0
	m.start(t, nil)
}

// CutPower is [Machine.Reboot] without telling anybody in the machine. What was written stays, whether or not it was on the disk.
func (m *Machine) CutPower(t testing.TB) {
	t.Helper()
	m.pid = 0
	if _, err := m.lifeline.stdin.Write([]byte{powerCut}); err != nil {
		t.Fatalf("cut the machine's power: %v", err)
	}
	m.start(t, nil)
}

// newPlan checks what a machine needs of the host.
func newPlan(opts Options) (*plan, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root may make its namespaces: run the tests with sudo")
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return nil, fmt.Errorf("%w: install util-linux", err)
	}
	p := &plan{Root: "/", Users: opts.Users, Binds: opts.Binds, DisableIPv6: opts.DisableIPv6, NoIPv6: opts.NoIPv6}
	if opts.Root != "" {
		p.Root = opts.Root
	}
	if strings.ContainsAny(p.Root, `:,\`) || !filepath.IsAbs(p.Root) {
		return nil, fmt.Errorf("root %q: overlayfs takes an absolute path without colon, comma and backslash", p.Root)
	}
	systemds := []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"}
	found := slices.IndexFunc(systemds, func(path string) bool {
		_, err := os.Stat(filepath.Join(p.Root, path))
		return err == nil
	})
	if found < 0 {
		return nil, fmt.Errorf("none of %s exists in %s: install systemd", strings.Join(systemds, ", "), p.Root)
	}
	p.Systemd = systemds[found]
	if opts.Users {
		if _, err := os.Stat(filepath.Join(p.Root, "/usr/bin/dbus-daemon")); err != nil {
			return nil, fmt.Errorf("%w: install dbus for Options.Users", err)
		}
	}
	for inside, host := range opts.Binds {
		if _, err := os.Stat(host); err != nil {
			return nil, fmt.Errorf("bind to %s: %w", inside, err)
		}
		if !filepath.IsAbs(inside) || !filepath.IsAbs(host) {
			return nil, fmt.Errorf("bind %q to %q: both paths must be absolute", host, inside)
		}
	}
	var err error
	p.Cgroup2, err = cgroup2Mount()
	return p, err
}

// Root is the machine's root directory as the host sees it. Absolute symbolic links below it lead astray, to the host's
// files: use ReadFile and WriteFile where one may be on the way.
func (m *Machine) Root() string { return fmt.Sprintf("/proc/%d/root", m.pid) }

// WriteFile writes a file in the machine, as root, with exactly that mode, and makes the directories it needs (0755). Below
// the home of the scope's user, file and directories are the user's. A path over an absolute symbolic link is refused: it
// would lead to the host's files.
func (m *Machine) WriteFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	root, err := os.OpenRoot(m.Root())
	if err != nil {
		t.Fatalf("open the machine's root: %v", err)
	}
	defer root.Close()
	name := strings.TrimPrefix(path, "/")
	err = root.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = root.WriteFile(name, []byte(content), mode)
	}
	if err == nil {
		err = root.Chmod(name, mode)
	}
	home := strings.TrimPrefix(m.Home(), "/") + "/"
	for owned := name; err == nil && m.User != "" && strings.HasPrefix(owned, home); owned = filepath.Dir(owned) {
		err = root.Chown(owned, m.UID, m.UID)
	}
	if err != nil {
		t.Fatalf("write %s in the machine: %v", path, err)
	}
}

// ReadFile returns the content of a file in the machine.
func (m *Machine) ReadFile(t testing.TB, path string) string {
	t.Helper()
	root, err := os.OpenRoot(m.Root())
	if err != nil {
		t.Fatalf("open the machine's root: %v", err)
	}
	defer root.Close()
	content, err := root.ReadFile(strings.TrimPrefix(path, "/"))
	if err != nil {
		t.Fatalf("read %s in the machine: %v", path, err)
	}
	return string(content)
}

// WaitFile returns when a file is as the condition wants it, which is given its content, or why that cannot be read. It looks once,
// then at each event in the file's directory, which has to be there (inotify(7)). At the bound the test fails with what it saw.
func (m *Machine) WaitFile(t testing.TB, path string, bound time.Duration, is func(content string, err error) bool) {
	t.Helper()
	root, err := os.OpenRoot(m.Root())
	if err != nil {
		t.Fatalf("open the machine's root: %v", err)
	}
	defer root.Close()
	wait.InDirectory(t, bound, filepath.Dir(m.Root()+path), func() (string, bool) {
		content, err := root.ReadFile(strings.TrimPrefix(path, "/"))
		return fmt.Sprintf("%s with %.1000q, %v", path, content, err), is(string(content), err)
	})
}

// report logs what a person asks first when a test of the gateway has failed.
func (m *Machine) report(t testing.TB) {
	if _, err := os.Stat(m.cgroup); err != nil {
		t.Logf("machine: no journal, it has ended: %v\nconsole:\n%s", err, m.console)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandBound)
	defer cancel()
	var matches []string
	for _, unit := range []string{"openclaw-gateway.service", "openclaw-gateway.socket"} {
		for _, field := range []string{"_SYSTEMD_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "USER_UNIT", "OBJECT_SYSTEMD_USER_UNIT"} {
			matches = append(matches, field+"="+unit, "+")
		}
	}
	journal := append([]string{"journalctl", "--no-pager", "--output=short-precise"}, matches[:len(matches)-1]...)
	for _, args := range [][]string{journal, {"systemctl", "status", "--no-pager", "--lines=0"}} {
		out, err := m.Command(ctx, args[0], args[1:]...).CombinedOutput()
		t.Logf("machine: %s (%v)\n%s", strings.Join(args[:2], " "), err, out)
	}
}
