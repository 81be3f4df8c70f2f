package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/install"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

const (
	systemConfig  = "etc/openclaw-gateway/config.yaml"
	systemSchema  = "etc/openclaw-gateway/config.schema.json"
	systemSocket  = "etc/systemd/system/openclaw-gateway.socket"
	systemService = "etc/systemd/system/openclaw-gateway.service"
)

// installableProgram makes a file that stands for the installed gateway, because the test's own lies in a directory of go's.
func installableProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// executeInstaller runs "gateway install …" or "gateway uninstall …" as the user with this uid.
func executeInstaller(t *testing.T, program string, euid int, args ...string) (out, notes string, err error) {
	t.Helper()
	in := &install.Installer{
		Executable: func() (string, error) { return program, nil },
		EUID:       func() int { return euid },
	}
	cmd := newInstallCommand(in)
	if args[0] == "uninstall" {
		cmd = newUninstallCommand(in)
	}
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args[1:])
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}

func TestInstallBelowRoot(t *testing.T) {
	root, program := t.TempDir(), installableProgram(t)
	out, notes, err := executeInstaller(t, program, 1000, "install", "--system", "--run-as", "root", "--root", root)
	if err != nil {
		t.Fatal(err)
	}
	want := "created " + root + "/" + systemConfig + "\n" +
		"created " + root + "/" + systemSchema + "\n" +
		"created " + root + "/" + systemSocket + "\n" +
		"created " + root + "/" + systemService + "\n" +
		"next: systemctl enable --now openclaw-gateway.socket\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("standard output (-want +got):\n%s", diff)
	}
	if notes != "" {
		t.Errorf("notes: %s", notes)
	}
	if diff := cmp.Diff(string(config.Example), readBelow(t, root, systemConfig)); diff != "" {
		t.Errorf("the configuration (-example +written):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(root, systemConfig))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the configuration has mode %v", info.Mode())
	}
	service := readBelow(t, root, systemService)
	for _, line := range []string{
		"\nExecStart=" + program + " run --config /etc/openclaw-gateway/config.yaml\n",
		"\nTimeoutStopSec=330\n",
	} {
		if !strings.Contains(service, line) {
			t.Errorf("the service lacks %q:\n%s", line, service)
		}
	}
	socket := readBelow(t, root, systemSocket)
	if !strings.Contains(socket, "\nListenStream=127.0.0.1:18789\nListenStream=[::1]:18789\n") {
		t.Errorf("the socket does not listen where the example says:\n%s", socket)
	}

	// Only the service depends on the stop timeout. The configuration is the user's now.
	edited := "listen: [\"127.0.0.1:18789\", \"[::1]:18789\"]\nstop: {timeout: 10s}\n"
	if err := os.WriteFile(filepath.Join(root, systemConfig), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, err = executeInstaller(t, program, 1000, "install", "--system", "--root", root, "--run-as", "nobody-here")
	if err != nil {
		t.Fatal(err)
	}
	want = "unchanged " + root + "/" + systemSocket + "\n" +
		"updated " + root + "/" + systemService + "\n" +
		"next: systemctl enable --now openclaw-gateway.socket\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("standard output of the second time (-want +got):\n%s", diff)
	}
	service = readBelow(t, root, systemService)
	if !strings.Contains(service, "\nTimeoutStopSec=13\n") || !strings.Contains(service, "\nUser=nobody-here\n") {
		t.Errorf("the service is not updated:\n%s", service)
	}
	if got := readBelow(t, root, systemConfig); got != edited {
		t.Errorf("the configuration was written over:\n%s", got)
	}

	// What was chosen is kept, and not only as long as the flags are repeated.
	if _, _, err = executeInstaller(t, program, 1000, "install", "--system", "--root", root); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(service, readBelow(t, root, systemService)); diff != "" {
		t.Errorf("the service without the flags (-before +after):\n%s", diff)
	}

	out, notes, err = executeInstaller(t, program, 1000, "uninstall", "--system", "--root", root)
	if err != nil {
		t.Fatal(err)
	}
	want = "removed " + root + "/" + systemSocket + "\nremoved " + root + "/" + systemService + "\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("standard output of uninstall (-want +got):\n%s", diff)
	}
	if !strings.Contains(notes, "the configuration stays") || readBelow(t, root, systemConfig) != edited {
		t.Errorf("the configuration does not stay, or nobody says so: %q", notes)
	}
	out, notes, err = executeInstaller(t, program, 1000, "uninstall", "--system", "--root", root)
	if err != nil || out != "" || !strings.Contains(notes, "there are no units") {
		t.Errorf("uninstalled twice: %q, %q, %v", out, notes, err)
	}
}

// TestInstallSchema: the schema goes with a configuration that names it, is kept up
// to date, and no other file of that name is touched.
// TestInstallAgain: the one scope that is installed need not be said again.
func TestInstallAgain(t *testing.T) {
	root, program := t.TempDir(), installableProgram(t)
	t.Setenv("XDG_CONFIG_HOME", "/home/alice/.config")
	install := func(more ...string) (string, string, error) {
		return executeInstaller(t, program, 1000, append([]string{"install", "--root", root}, more...)...)
	}
	exit := func(err error) int {
		if said, ok := errors.AsType[*exitStatus](err); ok {
			return said.status
		}
		return 0
	}
	if _, _, err := install(); exit(err) != exitUsage {
		t.Errorf("with nothing installed: %v, want exit status %d", err, exitUsage)
	}
	if _, _, err := install("--user"); err != nil {
		t.Fatal(err)
	}
	if out, notes, err := install(); err != nil || strings.Count(out, "unchanged ") != 2 || notes != "as before: --user\n" {
		t.Errorf("again: %v\n%s%s", err, out, notes)
	}
	if _, _, err := install("--system", "--run-as", "root"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := install(); exit(err) != exitUsage || !strings.Contains(err.Error(), "say which units") {
		t.Errorf("with both installed: %v, want exit status %d", err, exitUsage)
	}
}

func TestInstallSchema(t *testing.T) {
	root, program := t.TempDir(), installableProgram(t)
	install := func(words ...string) {
		t.Helper()
		out, notes, err := executeInstaller(t, program, 0, "install", "--system", "--run-as", "root", "--root", root)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(out+notes, word) {
				t.Errorf("gateway install says %q %q, want %q", out, notes, word)
			}
		}
		if len(words) == 0 && strings.Contains(out+notes, config.SchemaName) {
			t.Errorf("gateway install says %q %q", out, notes)
		}
	}
	want, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, systemSchema)
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install("created " + path)
	if got := readBelow(t, root, systemSchema); got != string(want) {
		t.Errorf("the schema is %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("the schema: %v, %v", info.Mode(), err)
	}
	install()
	write(path, `{"title": "gateway", "of": "an older version"}`)
	install("updated " + path)
	if got := readBelow(t, root, systemSchema); got != string(want) {
		t.Errorf("the schema is %q", got)
	}
	for name, other := range map[string]string{"somebody's": `{"title": "x"}`, "no JSON": "x"} {
		write(path, other)
		install("stays as it is")
		if got := readBelow(t, root, systemSchema); got != other {
			t.Errorf("%s schema was written over with %q", name, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	install("stays as it is")
	if _, err := os.Stat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the schema was written through a link: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(root, systemConfig), "front_desk: true\n")
	install()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a schema that no configuration names: %v", err)
	}
}

func TestInstallKeepsConfig(t *testing.T) {
	root, program := t.TempDir(), installableProgram(t)
	if _, _, err := executeInstaller(t, program, 0, "install", "--system", "--run-as", "root", "--config", "/srv/a b/%gateway.yaml", "--root", root); err != nil {
		t.Fatal(err)
	}
	out, _, err := executeInstaller(t, program, 0, "install", "--system", "--root", root)
	if err != nil || !strings.Contains(out, "unchanged "+root+"/"+systemService) {
		t.Errorf("installed again: %q, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(root, systemConfig)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a second configuration: %v", err)
	}
	_, notes, err := executeInstaller(t, program, 0, "uninstall", "--system", "--root", root)
	if want := "the configuration stays: " + root + "/srv/a b/%gateway.yaml\n"; err != nil || notes != want {
		t.Errorf("notes of uninstall %q, %v; want %q", notes, err, want)
	}
}

func TestInstallRunAsBelowRoot(t *testing.T) {
	root := t.TempDir()
	_, notes, err := executeInstaller(t, installableProgram(t), 0, "install", "--system", "--run-as", "alice", "--root", root)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(notes, "give /etc/openclaw-gateway/config.yaml to the user alice") {
		t.Errorf("nobody says who has to own the configuration: %q", notes)
	}
}

// TestInstallHardened: what was chosen stays until it is taken back, and is said only when it changes.
func TestInstallHardened(t *testing.T) {
	root, program := t.TempDir(), installableProgram(t)
	directory := filepath.Join(root, "etc/openclaw-gateway")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "config.yaml"), []byte("worker: {directory: '/srv/a b'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const paths = `ReadWritePaths=-/tmp -/var/tmp -/root "-/srv/a b"`
	for _, step := range []struct {
		flags    []string
		hardened bool
		notes    []string
	}{
		{[]string{"--run-as", "root"}, false, nil},
		{[]string{"--hardened=false"}, false, nil},
		{[]string{"--hardened"}, true, []string{"sudo", "take it back with: gateway install --system --hardened=false\n"}},
		{nil, true, nil},
		{[]string{"--hardened"}, true, nil},
		{[]string{"--hardened=false"}, false, []string{"no longer hardened"}},
		{nil, false, nil},
	} {
		_, notes, err := executeInstaller(t, program, 0, append([]string{"install", "--system", "--root", root}, step.flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		unit := readBelow(t, root, systemService)
		if strings.Contains(unit, "\nNoNewPrivileges=yes\n") != step.hardened || strings.Contains(unit, "\n"+paths+"\n") != step.hardened {
			t.Errorf("%v: %s", step.flags, unit)
		}
		for _, note := range step.notes {
			if !strings.Contains(notes, note) {
				t.Errorf("%v: %q is not said: %s", step.flags, note, notes)
			}
		}
		if len(step.notes) == 0 && strings.Contains(notes, "hardened") && !strings.Contains(notes, "@@") {
			t.Errorf("%v: said without need: %s", step.flags, notes)
		}
	}
	_, _, err := executeInstaller(t, program, 0, "install", "--system", "--run-as", "alice", "--hardened", "--root", root)
	if err == nil || !strings.Contains(err.Error(), "home directory of the user alice") {
		t.Errorf("hardened for a user whom nobody knows: %v", err)
	}
}

func TestInstallDryRun(t *testing.T) {
	root, program := t.TempDir(), installableProgram(t)
	dry := []string{"install", "--system", "--run-as", "root", "--root", root, "--dry-run"}
	out, _, err := executeInstaller(t, program, 1000, dry...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"--- /dev/null\n+++ /" + systemConfig + "\n", "--- /dev/null\n+++ /" + systemSocket + "\n", "\n+Restart=always\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the differences lack %q:\n%s", want, out)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("the dry run has made %v, %v", entries, err)
	}

	if _, _, err := executeInstaller(t, program, 1000, dry[:6]...); err != nil {
		t.Fatal(err)
	}
	out, notes, err := executeInstaller(t, program, 1000, dry...)
	if err != nil || out != "" || notes != "nothing would change\n" {
		t.Errorf("after the installation: %q, %q, %v", out, notes, err)
	}
	if err := os.WriteFile(filepath.Join(root, systemConfig), []byte("listen: [\"127.0.0.1:8080\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := readBelow(t, root, systemSocket)
	out, _, err = executeInstaller(t, program, 1000, dry...)
	if err != nil || !strings.Contains(out, "\n-ListenStream=127.0.0.1:18789\n-ListenStream=[::1]:18789\n+ListenStream=127.0.0.1:8080\n") {
		t.Errorf("another address: %v\n%s", err, out)
	}
	if readBelow(t, root, systemSocket) != before {
		t.Error("the dry run has changed the socket")
	}
}

func TestInstallRefuses(t *testing.T) {
	goRun := filepath.Join(t.TempDir(), "go-build123/b001/exe")
	cached := filepath.Join(t.TempDir(), "cache/ab", strings.Repeat("0a", 32)+"-d")
	for _, dir := range []string{goRun, cached} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "gateway"), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	openclaw := filepath.Join(t.TempDir(), "openclaw-launcher")
	if err := os.Rename(installableProgram(t), openclaw); err != nil {
		t.Fatal(err)
	}
	good, everybodys := installableProgram(t), installableProgram(t)
	if err := os.Chmod(everybodys, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "gateway")
	if err := os.Symlink(openclaw, link); err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		program string
		euid    int
		sudo    string
		args    []string // R stands for an empty directory
		config  string
		want    string
	}{
		"nobody to run as":        {good, 0, "", []string{"install", "--system", "--root", "R"}, "", "`gateway install --system --run-as root` if root is meant"},
		"no scope":                {good, 0, "", []string{"install", "--root", "R"}, "", "gateway install --system for the machine's, or gateway install --user"},
		"both scopes":             {good, 0, "", []string{"install", "--system", "--user", "--root", "R"}, "", "say which units"},
		"uninstall without scope": {good, 0, "", []string{"uninstall", "--root", "R"}, "", "gateway uninstall --system"},
		"not root":                {"/usr/bin/env", 1000, "", []string{"install", "--system", "--config", "/etc/own.yaml"}, "", "run `sudo /usr/bin/env install --system --config /etc/own.yaml`, or use --user"},
		"not root's":              {everybodys, 1000, "", []string{"install", "--system", "--name", "work", "--run-as", "alice", "--now"}, "", "run `sudo install -m 755 " + everybodys + " /usr/local/bin/gateway && sudo /usr/local/bin/gateway install --system --name work --run-as alice --now`"},
		"uninstall not root":      {good, 1000, "", []string{"uninstall", "--system"}, "", "sudo gateway uninstall --system"},
		"user scope under sudo":   {good, 0, "alice", []string{"install", "--user"}, "", "as the user whose they are"},
		"run as in user scope":    {good, 0, "", []string{"install", "--user", "--run-as", "alice", "--root", "R"}, "", "--system only"},
		"run as nobody known":     {good, 0, "", []string{"install", "--system", "--run-as", "no-such-user", "--dry-run"}, "", "create the user first"},
		"run as no name":          {good, 0, "", []string{"install", "--system", "--run-as", "a b", "--root", "R"}, "", "not a user name"},
		"go run":                  {goRun + "/gateway", 0, "", []string{"install", "--system", "--run-as", "root", "--root", "R"}, "", "go build -o gateway"},
		"go run from the cache":   {cached + "/gateway", 0, "", []string{"install", "--system", "--run-as", "root", "--root", "R"}, "", "go build -o gateway"},
		"named as OpenClaw":       {openclaw, 0, "", []string{"install", "--system", "--run-as", "root", "--root", "R"}, "", "rename it"},
		"in truth named so":       {link, 0, "", []string{"install", "--system", "--run-as", "root", "--root", "R"}, "", "rename it"},
		"bad configuration":       {good, 0, "", []string{"install", "--system", "--run-as", "root", "--root", "R"}, "lisen: []\n", "config.yaml:1"},
		"an argument":             {good, 0, "", []string{"install", "--system", "--run-as", "root", "--root", "R", "now"}, "", "now"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SUDO_USER", test.sudo)
			root := t.TempDir()
			if test.config != "" {
				writeBelow(t, root, systemConfig, test.config)
			}
			args := strings.Split(strings.ReplaceAll(strings.Join(test.args, "\n"), "\nR", "\n"+root), "\n")
			out, _, err := executeInstaller(t, test.program, test.euid, args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if out != "" {
				t.Errorf("printed beside the error: %q", out)
			}
			if _, err := os.Stat(filepath.Join(root, "etc/systemd")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

func TestInstallLeavesForeignUnit(t *testing.T) {
	root := t.TempDir()
	text := "[Unit]\nDescription=OpenClaw Gateway\n"
	writeBelow(t, root, systemService, text)
	for _, verb := range []string{"install", "uninstall"} {
		_, _, err := executeInstaller(t, installableProgram(t), 0, verb, "--system", "--root", root)
		if !errors.Is(err, units.ErrForeign) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if got := readBelow(t, root, systemService); got != text {
		t.Errorf("the foreign unit is now:\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(root, systemConfig)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused installation has left a configuration: %v", err)
	}
}

// TestInstallSystemctl installs in a user's home with a systemctl that writes down what it is called with, and answers
// is-active by the files that lie beside it.
func TestInstallSystemctl(t *testing.T) {
	const fake = `#!/bin/sh
here=${0%/*}
case "$*" in
*is-active*) for unit; do :; done; test -e "$here/$unit" || exit 3;;
*) echo "$*" >>"$here/calls"; test ! -e "$here/broken" || { echo "Failed to do that." >&2; exit 1; };;
esac
`
	program := installableProgram(t)
	newHome := func(t *testing.T) (home, bin string) {
		home, bin = t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(fake), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("HOME", home)
		t.Setenv("XDG_CONFIG_HOME", "")
		t.Setenv("SUDO_USER", "")
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		return home, bin
	}

	tests := map[string]struct {
		args  []string
		calls string
		last  string
	}{
		"plain": {nil, "--user daemon-reload\n", "next: systemctl --user enable --now openclaw-gateway.socket\n"},
		"now": {
			[]string{"--now"},
			"--user daemon-reload\n--user enable openclaw-gateway.socket\n--user start openclaw-gateway.socket\n", "openclaw-gateway.service\n",
		},
		"at boot": {
			[]string{"--at-boot"},
			"--user daemon-reload\n--user enable openclaw-gateway.service\n",
			"next: systemctl --user enable --now openclaw-gateway.socket openclaw-gateway.service\n",
		},
		"now and at boot": {
			[]string{"--now", "--at-boot"},
			"--user daemon-reload\n--user enable openclaw-gateway.socket openclaw-gateway.service\n" +
				"--user start openclaw-gateway.socket openclaw-gateway.service\n",
			"openclaw-gateway.service\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, bin := newHome(t)
			out, _, err := executeInstaller(t, program, 1000, append([]string{"install", "--user"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.calls, readBelow(t, bin, "calls")); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if !strings.HasSuffix(out, test.last) {
				t.Errorf("the output does not end with %q:\n%s", test.last, out)
			}
		})
	}

	t.Run("at once", func(t *testing.T) {
		home, bin := newHome(t)
		writeBelow(t, home, ".config/openclaw-gateway/config.yaml", "worker: {start: at-once}\n")
		if _, _, err := executeInstaller(t, program, 1000, "install", "--user", "--now"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tests["now and at boot"].calls, readBelow(t, bin, "calls")); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})

	t.Run("while it runs", func(t *testing.T) {
		home, bin := newHome(t)
		if _, _, err := executeInstaller(t, program, 1000, "install", "--user"); err != nil {
			t.Fatal(err)
		}
		writeBelow(t, bin, instance.Default.Socket(), "")
		writeBelow(t, bin, instance.Default.Service(), "")
		tests := []struct {
			config, want, never string
			restarts            bool
		}{
			// What systemd uses when it starts the service, and what holds for one that runs.
			{"{}\n", `until "systemctl --user restart openclaw-gateway.service"`, "socket was restarted", false},
			{"stop: {timeout: 1s}\n", "\n+TimeoutStopSec=4\n", "restart", false},
			{"listen: [\"127.0.0.1:1\"]\nstop: {timeout: 2s}\n", "socket was restarted", "restart openclaw-gateway.service", true},
		}
		for _, test := range tests {
			writeBelow(t, home, ".config/openclaw-gateway/config.yaml", test.config)
			_, notes, err := executeInstaller(t, program, 1000, "install", "--user", "--now", "--hardened")
			if err != nil || !strings.Contains(notes, test.want) || strings.Contains(notes, test.never) {
				t.Errorf("%s%v, notes %q: want %q and not %q", test.config, err, notes, test.want, test.never)
			}
			if !strings.Contains(notes, "\n+TimeoutStopSec=") && !strings.Contains(notes, "\n+ListenStream=127.0.0.1:1\n") && !strings.Contains(notes, "\n+NoNewPrivileges=") {
				t.Errorf("%s: the difference is not shown:\n%s", test.config, notes)
			}
			restarted := strings.Contains(readBelow(t, bin, "calls"), "--user restart openclaw-gateway.socket\n")
			if restarted != test.restarts {
				t.Errorf("%s: socket restarted: %v, want %v", test.config, restarted, test.restarts)
			}
		}
	})

	t.Run("service without socket", func(t *testing.T) {
		home, bin := newHome(t)
		writeBelow(t, bin, instance.Default.Service(), "")
		_, _, err := executeInstaller(t, program, 1000, "install", "--user", "--now")
		if err == nil || !strings.Contains(err.Error(), `"systemctl --user stop openclaw-gateway.service"`) {
			t.Errorf("error %v", err)
		}
		if entries, err := os.ReadDir(home); err != nil || len(entries) != 0 {
			t.Errorf("written all the same: %v, %v", entries, err)
		}
	})

	t.Run("what is run", func(t *testing.T) {
		home, _ := newHome(t)
		for configuration, want := range map[string]bool{"{}\n": true, "worker: {command: [/bin/true]}\n": false} {
			writeBelow(t, home, ".config/openclaw-gateway/config.yaml", configuration)
			_, notes, err := executeInstaller(t, program, 1000, "install", "--user")
			if err != nil || strings.Contains(notes, "hello server, until worker.command in "+home) != want {
				t.Errorf("%s%v, notes %q: says that clients meet the hello server: want %v", configuration, err, notes, want)
			}
		}
	})

	t.Run("no login", func(t *testing.T) {
		home, bin := newHome(t)
		if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2; exit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		for directory, want := range map[string]bool{"": true, "/run/user/1000": false} {
			t.Setenv("XDG_RUNTIME_DIR", directory)
			_, _, err := executeInstaller(t, program, 1000, "install", "--user")
			if err == nil || !strings.Contains(err.Error(), "No medium found") || strings.Contains(err.Error(), "export XDG_RUNTIME_DIR=/run/user/$(id -u)") != want {
				t.Errorf("with XDG_RUNTIME_DIR=%q: %v; names the way out: want %v", directory, err, want)
			}
		}
		if entries, err := os.ReadDir(home); err != nil || len(entries) != 0 {
			t.Errorf("written all the same: %v, %v", entries, err)
		}
	})

	t.Run("systemd refuses", func(t *testing.T) {
		_, bin := newHome(t)
		writeBelow(t, bin, "broken", "")
		_, _, err := executeInstaller(t, program, 1000, "install", "--user")
		if err == nil || !strings.Contains(err.Error(), "systemctl --user daemon-reload: exit status 1: Failed to do that: `gateway doctor --user` says") {
			t.Errorf("error %v", err)
		}
	})

	t.Run("uninstall", func(t *testing.T) {
		home, bin := newHome(t)
		if _, _, err := executeInstaller(t, program, 1000, "install", "--user"); err != nil {
			t.Fatal(err)
		}
		out, notes, err := executeInstaller(t, program, 1000, "uninstall", "--user")
		if err != nil {
			t.Fatal(err)
		}
		dir := home + "/.config/systemd/user/"
		if want := "removed " + dir + instance.Default.Socket() + "\nremoved " + dir + instance.Default.Service() + "\n"; out != want {
			t.Errorf("output %q, want %q", out, want)
		}
		if !strings.Contains(notes, "the configuration stays: "+home+"/.config/openclaw-gateway/config.yaml") {
			t.Errorf("notes %q", notes)
		}
		want := "--user daemon-reload\n--user disable --now openclaw-gateway.socket openclaw-gateway.service\n--user daemon-reload\n"
		if diff := cmp.Diff(want, readBelow(t, bin, "calls")); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func readBelow(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeBelow(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
