package test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

const (
	packageName = "openclaw-gateway-launcher"
	laterOne    = "9999.0.0" // later than any that there will be
)

// distribute builds what is published, for this processor, as "make dist" does.
func distribute(t testing.TB, directory string, more ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*bound) // it compiles everything anew
	defer cancel()
	// Without what make has told the make that runs the tests.
	command := exec.CommandContext(ctx, "env", append([]string{
		"-u", "MAKEFLAGS", "-u", "MAKELEVEL", "-u", "MFLAGS", "PROCESSORS=" + runtime.GOARCH, "make", "-C", "..", "--no-print-directory", "dist", "DIST=" + directory,
	}, more...)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("make dist: %v\n%s", err, output)
	}
}

func debIn(t testing.TB, directory string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(directory, "*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has %v (%v), want one .deb", directory, found, err)
	}
	return filepath.Base(found[0])
}

// TestPackages: with nothing but a package people get behind the launcher, go to a later version and back, and get rid of it.
func TestPackages(t *testing.T) {
	t.Parallel()
	now, again, later := t.TempDir(), t.TempDir(), t.TempDir()
	distribute(t, now)
	distribute(t, again)
	distribute(t, later, "RELEASE="+laterOne)
	was, err := os.ReadFile(filepath.Join(now, "SHA256SUMS"))
	is, errToo := os.ReadFile(filepath.Join(again, "SHA256SUMS"))
	if err != nil || errToo != nil || !bytes.Equal(was, is) {
		t.Errorf("the same source makes other packages the second time (%v, %v):\n%s\n%s", err, errToo, was, is)
	}
	if output, err := exec.Command("lintian", "--fail-on", "error,warning", "--allow-root", filepath.Join(now, debIn(t, now))).CombinedOutput(); err != nil {
		t.Errorf("lintian: %v\n%s", err, output)
	}
	linked(t, now)
	on := func(t *testing.T, here place, openclaw bool) (*machine.Machine, func(deb string) string) {
		options := machine.Options{Users: true, Binds: map[string]string{nodePath: required(t, "NODE"), "/mnt/now": now, "/mnt/later": later}}
		if openclaw {
			options.Binds["/usr/local/lib/node_modules"] = filepath.Dir(filepath.Dir(filepath.Dir(required(t, "OPENCLAW_ENTRY"))))
		}
		if here.root != "" {
			options.Root = required(t, here.root)
		}
		m := machine.Boot(t, options)
		if openclaw {
			m.Run(t, "ln", "-s", "../lib/node_modules/openclaw/openclaw.mjs", "/usr/local/bin/openclaw")
		}
		m.Run(t, "rm", "-f", "/.dockerenv") // or OpenClaw listens on 0.0.0.0
		return m, func(deb string) string {
			t.Helper()
			return m.Run(t, "dpkg", "--force-unsafe-io", "--install", deb)
		}
	}
	t.Run("Debian 12", func(t *testing.T) {
		t.Parallel()
		m, install := on(t, place{}, true)
		alice := testPackagesPerson(t, m, now)
		testPackagesSystem(t, m, alice, install, now, later)
	})
	t.Run("Debian 13", func(t *testing.T) {
		t.Parallel()
		m, install := on(t, place{root: debian13}, true)
		testPackagesUser(t, m, install, now, later)
	})
	t.Run("npm", func(t *testing.T) {
		t.Parallel()
		m, _ := on(t, place{}, false)
		testPackagesNpm(t, m)
	})
}

var pageLink = regexp.MustCompile(`\]\(([^)#\s]+)`)

// linked follows the links of the pages in the packages: what they lead to has to be there as well. And the npm
// package has its files: npm leaves out without a word what is missing.
func linked(t *testing.T, packages string) {
	t.Helper()
	directory := t.TempDir()
	unpack := "cd " + directory + "; mkdir deb npm; dpkg-deb -x " + filepath.Join(packages, debIn(t, packages)) + " deb; tar xzf " + packages + "/" + packageName + "-[0-9]*.tgz -C npm" +
		"; cd npm/package; for file in LICENSE bin/gateway.js man/gateway.8 man/gateway.yaml.5 completions/gateway.bash completions/gateway.zsh" +
		" completions/gateway.fish config.example.yaml config.schema.json; do test -s $file || { echo $file is not in the npm package; exit 1; }; done"
	if output, err := exec.Command("sh", "-euc", unpack).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	pages, err := exec.Command("find", directory, "-name", "*.md").Output()
	if err != nil || bytes.Count(pages, []byte("README.md")) != 2 {
		t.Fatalf("the packages have the pages %s (%v)", pages, err)
	}
	for page := range strings.Lines(string(pages)) {
		page = strings.TrimSpace(page)
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range pageLink.FindAllStringSubmatch(fencedCommands.ReplaceAllString(string(content), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), match[1])); err != nil {
				t.Errorf("%s has a link to %s, which no reader of that package has: %v", strings.TrimPrefix(page, directory), match[1], err)
			}
		}
	}
}

// testPackagesPerson: behind the launcher, and back, by what README.md tells to type; then OpenClaw and the package are removed.
func testPackagesPerson(t *testing.T, m *machine.Machine, now string) *machine.Scope {
	alice := m.AddUser(t, "alice")
	fromPackage(t, m, alice, "/mnt/now/"+debIn(t, now))
	types(t, alice, typable(t, "README.md", "Going back")[0])
	awaitAnswer(t, m)
	isStock(t, m, alice)
	alice.Run(t, "openclaw", "gateway", "uninstall")
	types(t, alice, "sudo dpkg --purge "+packageName)
	return alice
}

// testPackagesSystem: a server's own unit is adopted; with a later version everything goes on, and alice is told how hers does; nothing
// is left in the end.
func testPackagesSystem(t *testing.T, m *machine.Machine, alice *machine.Scope, install func(string) string, now, later string) {
	m.Run(t, "useradd", "--create-home", "claw")
	m.WriteFile(t, "/etc/systemd/system/claw.service", "[Service]\nUser=claw\nExecStart="+nodePath+" "+machineEntry+
		" gateway --port 18789 --allow-unconfigured --token a-token-that-is-long-enough-for-a-test\nRestart=always\n[Install]\nWantedBy=multi-user.target\n", 0o600)
	m.Systemctl(t, "daemon-reload")
	m.Systemctl(t, "enable", "--now", "claw.service")
	awaitAnswer(t, m)

	install("/mnt/now/" + debIn(t, now))
	for _, path := range []string{
		"/usr/share/man/man8/gateway.8.gz", "/usr/share/man/man5/gateway.yaml.5.gz", "/usr/share/bash-completion/completions/gateway",
		"/usr/share/zsh/vendor-completions/_gateway", "/usr/share/fish/vendor_completions.d/gateway.fish",
		"/usr/share/doc/" + packageName + "/examples/config.example.yaml", "/usr/share/doc/" + packageName + "/examples/config.schema.json",
	} {
		m.Run(t, "test", "-s", path)
	}
	m.Run(t, "gateway", "adopt", "--yes")
	awaitAnswer(t, m)
	// A second instance, with the built-in server.
	m.Run(t, "gateway", "install", "--system", "--run-as", "claw", "--name", "second", "--now")
	m.Systemctl(t, "start", "openclaw-gateway-second.service")
	// One of alice's, and one of bob's, who has a copy of his own.
	bob := m.AddUser(t, "bob")
	starts := func(who *machine.Scope, program, address string) {
		who.Run(t, "sh", "-euc", "mkdir -p ~/.config/openclaw-gateway-own; echo 'listen: [\""+address+"\"]' >~/.config/openclaw-gateway-own/config.yaml; "+
			program+" install --user --name own --now; systemctl --user start openclaw-gateway-own.service")
	}
	starts(alice, "gateway", "127.0.0.1:18801")
	bob.Run(t, "sh", "-c", "cp /usr/bin/gateway ~/copy")
	starts(bob, "~/copy", "127.0.0.1:18802")

	before := statusBy(t, m, "gateway")
	said := install("/mnt/later/" + debIn(t, later))
	if is := statusBy(t, m, "gateway"); is.Launcher.PID != before.Launcher.PID || is.Worker.PID != before.Worker.PID || !strings.HasPrefix(is.Version, laterOne) ||
		strings.Count(said, "is version "+laterOne) != 2 { // the second instance, too
		t.Errorf("the upgrade says %q; the launcher is %+v and was %+v, with the worker %d and %d", said, is.Launcher, before.Launcher, is.Worker.PID, before.Worker.PID)
	}
	_, upgrade, found := strings.Cut(said, "As alice run: ")
	upgrade, _, _ = strings.Cut(upgrade, "\n")
	if !found || strings.Contains(said, "As bob") {
		t.Fatalf("of alice's launcher and bob's the upgrade does not name hers alone:\n%s", said)
	}
	if said := alice.Run(t, "sh", "-c", upgrade); !strings.Contains(said, "is version "+laterOne) {
		t.Errorf("`%s` says %q", upgrade, said)
	}
	alice.Run(t, "gateway", "uninstall", "--user", "--name", "own")
	bob.Run(t, "sh", "-c", "~/copy uninstall --user --name own")
	if version := m.Run(t, "gateway", "--version"); !strings.HasPrefix(version, "gateway "+laterOne+" ") {
		t.Errorf("the version is %q", version)
	}

	// Back to the earlier one: what the later has kept is left alone.
	said = install("/mnt/now/" + debIn(t, now))
	commands := 0
	for line := range strings.Lines(said) {
		if _, command, found := strings.Cut(strings.TrimSpace(line), "may wait a moment: "); found {
			commands++
			m.Run(t, "sh", "-c", command)
		}
	}
	if commands != 2 || !strings.Contains(m.Journal(t, service), "is older than "+laterOne) || m.Unit(t, service).MainPID == before.Launcher.PID {
		t.Fatalf("%d commands are named, or the launcher has become an older program: %q", commands, said)
	}
	awaitAnswer(t, m)
	if text, _ := m.Output("gateway", "status", "--json"); !strings.Contains(text, "was last used by version "+laterOne) {
		t.Errorf("the status does not say that the state is a later version's:\n%s", text)
	}

	// Who has built one from source has it earlier in the PATH: that one is not asked, and its instance stays.
	m.Run(t, "sh", "-euc", "mkdir /opt/own; cp /usr/bin/gateway /opt/own; /opt/own/gateway install --system --run-as claw --name source --now; systemctl start openclaw-gateway-source.service")
	said = m.Run(t, "sh", "-c", "PATH=/opt/own:$PATH dpkg --remove "+packageName+" 2>&1")
	_, command, found := strings.Cut(said, "install this program again and run: ")
	command, _, _ = strings.Cut(command, "\n")
	if !found || !strings.Contains(said, "claw.service, which was adopted, is not given back") {
		t.Fatalf("the removal does not say what becomes of what was adopted:\n%s", said)
	}
	for _, unit := range []string{service, socket, "openclaw-gateway-second.service", "openclaw-gateway-second.socket"} {
		if u := m.Unit(t, unit); u.ActiveState != "inactive" {
			t.Errorf("after the removal %s is %+v", unit, u)
		}
		m.Run(t, "test", "!", "-e", "/etc/systemd/system/"+unit)
	}
	m.Run(t, "test", "-s", "/etc/openclaw-gateway/config.yaml")
	install("/mnt/later/" + debIn(t, later))
	m.Run(t, "sh", "-c", command)
	if u := m.Unit(t, "claw.service"); u.ActiveState != "active" {
		t.Errorf("after `%s` claw.service is %+v", command, u)
	}
	m.Systemctl(t, "disable", "--now", "claw.service")
	if said := m.Run(t, "sh", "-c", "dpkg --remove "+packageName+" 2>&1"); strings.Contains(said, "adopted") {
		t.Errorf("what was given back is named again:\n%s", said)
	}
	m.WriteFile(t, "/etc/openclaw-gateway-launcher/of-somebody-else", "x", 0o600)
	m.Run(t, "dpkg", "--purge", packageName)
	const stays = "/etc/openclaw-gateway-launcher\n/etc/openclaw-gateway-source\n/var/cache/openclaw-gateway-source\n/var/lib/openclaw-gateway-source\n"
	if left := m.Run(t, "sh", "-c", "ls -d /etc/openclaw-gateway* /var/lib/openclaw-gateway* /var/cache/openclaw-gateway* 2>/dev/null || true"); left != stays {
		t.Errorf("after the purge there is\n%s", left)
	}
	if u := m.Unit(t, "openclaw-gateway-source.service"); u.ActiveState != "active" {
		t.Errorf("after the purge the instance of another program is %+v", u)
	}

	// A program that cannot be executed, such as one for another processor, can be removed.
	install("/mnt/now/" + debIn(t, now))
	m.Run(t, "sh", "-euc", "rm /usr/bin/gateway; printf '\\177ELF' >/usr/bin/gateway; chmod 755 /usr/bin/gateway")
	m.Run(t, "dpkg", "--remove", packageName)
}

// testPackagesUser: all that README.md and the pages about OpenClaw and doctor tell a person to type, the rescue too; the
// removal names that person, who has not gone back; and what the whole machine has goes on with a later version, and goes in the end.
func testPackagesUser(t *testing.T, m *machine.Machine, install func(string) string, now, later string) {
	alice := m.AddUser(t, "alice")
	a := m.As(alice)
	fromPackage(t, m, alice, "/mnt/now/"+debIn(t, now))
	asksOurs(t, a, alice)
	if code, body := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
		t.Errorf("GET http://%s/healthz: %d %s", ipv6, code, body)
	}
	types(t, alice, typable(t, "docs/doctor.md", "Doctor's findings")[0])
	openclaw := typable(t, "docs/openclaw.md", "What adopt does")
	types(t, alice, openclaw[2])
	awaitAnswer(t, m)
	isStock(t, m, alice)

	rescue := typable(t, "README.md", "The port is taken: have it back now")[0]
	if again := typable(t, "docs/doctor.md", "Who holds the port")[0]; again != rescue {
		t.Errorf("README.md has the rescue\n%s\nand docs/doctor.md\n%s", rescue, again)
	}
	orphan, settled := escapes(t, m, alice)
	ours, openclaws, two := strings.Cut(strings.TrimSpace(rescue), "\n")
	if !two || strings.Contains(openclaws, "\n") {
		t.Fatalf("the rescue is not two commands:\n%s", rescue)
	}
	types(t, alice, ours)
	_, _ = typed(t, alice, openclaws) // it fails if OpenClaw is not up within 45 s, which a busy machine takes; so its answer is waited for
	awaitAnswer(t, m)
	if isStock(t, m, alice); alive(t, m, orphan) {
		t.Errorf("the orphan, pid %d, lives", orphan)
	}
	settled()
	types(t, alice, openclaw[0])
	awaitAnswer(t, a)
	said := m.Run(t, "sh", "-c", "dpkg --remove "+packageName+" 2>&1")
	_, command, found := strings.Cut(said, "To stop it: ")
	command, _, _ = strings.Cut(command, "\n")
	if !found || !strings.Contains(said, "openclaw-gateway.service of user alice runs /usr/bin/gateway too") ||
		!strings.Contains(said, "user who is not logged in") {
		t.Fatalf("the removal does not name alice's units, and that there may be others':\n%s", said)
	}
	m.Run(t, "sh", "-c", command)
	for _, unit := range []string{service, socket} {
		if u := a.Unit(t, unit); u.ActiveState != "inactive" {
			t.Errorf("after `%s` %s is %+v", command, unit, u)
		}
	}

	install("/mnt/now/" + debIn(t, now))
	m.Run(t, "gateway", "install", "--system", "--run-as", "alice", "--name", "second", "--now")
	m.Systemctl(t, "start", "openclaw-gateway-second.service")
	if said := install("/mnt/later/" + debIn(t, later)); !strings.Contains(said, "is version "+laterOne) {
		t.Errorf("the upgrade says %q", said)
	}
	m.Run(t, "dpkg", "--purge", packageName)
	left := m.Run(t, "sh", "-c", "ls -d /etc/systemd/system/openclaw-gateway* /etc/openclaw-gateway* /var/lib/openclaw-gateway* /var/cache/openclaw-gateway* 2>/dev/null || true")
	if left != "" {
		t.Errorf("after the purge there is\n%s", left)
	}
}

// testPackagesNpm: users of OpenClaw have npm. Root's program is for both scopes, a user's own for that user's.
func testPackagesNpm(t *testing.T, m *machine.Machine) {
	const tarballs = "$(ls /mnt/now/" + packageName + "-linux-*.tgz) $(ls /mnt/now/" + packageName + "-[0-9]*.tgz)"
	alice := m.AddUser(t, "alice")
	maySudo(t, m, alice)
	alice.Run(t, "sh", "-euc", "cd; npm install --global --offline --prefix ~/.npm-global "+tarballs)
	own := alice.Home() + "/.npm-global/bin/gateway"
	native := alice.Home() + "/.npm-global/lib/node_modules/" + packageName + "-linux-"
	alice.Run(t, own, "install", "--user", "--now")
	if command := alice.Property(t, service, "ExecStart"); !strings.Contains(command, "path="+native) {
		t.Errorf("the unit runs %s, want a program below %s", command, native)
	}
	a := m.As(alice)
	awaitAnswer(t, a)
	alice.Run(t, own, "uninstall", "--user")
	_, err := alice.Output(own, "install", "--system", "--run-as", "alice", "--now")
	_, helps, _ := strings.Cut(errorText(err), "run `")
	helps, _, _ = strings.Cut(helps, "`")
	if !strings.HasPrefix(helps, "sudo install -m 755 "+native) {
		t.Fatalf("a program that alice can replace: %v", err)
	}
	types(t, alice, helps)
	awaitAnswer(t, m)
	m.Run(t, "/usr/local/bin/gateway", "uninstall", "--system")
	m.Run(t, "rm", "/usr/local/bin/gateway")
	// What npm looks up would be written down here.
	const registry = "http://127.0.0.1:4873/"
	m.WriteFile(t, "/root/.npmrc", "registry="+registry+"\nprefix=/usr/local\n", 0o600)
	m.Run(t, "systemd-run", "--property=StandardError=file:/run/asked", "python3", "-m", "http.server", "--bind", "127.0.0.1", "4873")
	alice.Run(t, "sh", "-euc", "cp "+tarballs+" ~")
	types(t, alice, typable(t, "README.md", "Get it")[1])
	m.Run(t, "curl", "--silent", "--retry", "5", "--retry-connrefused", registry)
	// Of itself npm may ask.
	if asked := m.Run(t, "cat", "/run/asked"); !strings.Contains(asked, "GET / ") || strings.Contains(asked, packageName) {
		t.Errorf("a registry was asked for our packages, or not by us:\n%s", asked)
	}
	m.Run(t, "gateway", "install", "--system", "--run-as", "alice", "--now")
	awaitAnswer(t, m)
	m.Run(t, "gateway", "uninstall", "--system")
	readme, err := os.ReadFile("../README.md")
	_, uninstall, found := strings.Cut(string(readme), "`sudo npm uninstall ")
	uninstall, _, _ = strings.Cut(uninstall, "`")
	if err != nil || !found {
		t.Fatalf("README.md has no command that removes the npm packages (%v)", err)
	}
	types(t, alice, "sudo npm uninstall "+uninstall)
	if left := m.Run(t, "sh", "-c", "ls -d /usr/local/lib/node_modules/"+packageName+"* 2>/dev/null || true"); left != "" {
		t.Errorf("after `sudo npm uninstall %s` there is\n%s", uninstall, left)
	}
}

// TestNpmAlone: who has installed the small one of the npm packages alone is told to install both files, as README.md does.
func TestNpmAlone(t *testing.T) {
	t.Parallel()
	output, err := exec.Command(required(t, "NODE"), "../packaging/npm/gateway.js", "status").CombinedOutput()
	command := strings.TrimPrefix(strings.TrimSpace(typable(t, "README.md", "Get it")[1]), "sudo ")
	if err == nil || !strings.HasSuffix(strings.TrimSpace(string(output)), "run: "+command) {
		t.Errorf("without the processor's package (%v):\n%s\nwant `%s`", err, output, command)
	}
}
