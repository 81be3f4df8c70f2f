package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/test/machine"
)

// section is a heading of a page whose blocks of commands somebody is to type.
type section struct {
	page, heading string
	blocks        []block
}

type block struct {
	word    string // one that is in it
	untyped string // why no test types it; "": one does
}

// sections are all of them, in README.md and in docs.
var sections = []section{
	{"README.md", "The port is taken: have it back now", []block{{"gateway reclaim", ""}}},
	{"README.md", "Get it", []block{
		{"dpkg --install", ""},
		{"npm install", ""},
		{"golang-go", "Debian's packages are not on a machine"},
		{"backports", "neither are these"},
		{"make build", "machine.Build does it for every machine"},
		{"make run", "a machine has no Go: TestByHand runs the same program by hand"},
		{"make test", "it runs this"},
	}},
	{"README.md", "`gateway adopt`", []block{{"gateway adopt", ""}, {"gateway status", ""}}},
	{"README.md", "Going back", []block{{"gateway adopt --undo", ""}}},
	{"docs/containers.md", "In a container", []block{{"docker build", "a machine has no Docker: TestContainer does what the Dockerfile says"}}},
	{"docs/doctor.md", "Doctor's findings", []block{{"gateway doctor", ""}}},
	{"docs/doctor.md", "Who holds the port", []block{{"gateway reclaim", ""}}},
	{"docs/how-it-works.md", "Measured", []block{{"make bench", "it is no test"}}},
	{"docs/monitoring.md", "Metrics", []block{{"--textfile", ""}}},
	{"docs/openclaw.md", "What adopt does", []block{{"gateway adopt", ""}, {"gateway status", ""}, {"gateway adopt --undo", ""}}},
	{"docs/openclaw.md", "For the whole machine", []block{{"cat > openclaw.yaml", ""}, {"gateway install --system", ""}}},
	{"docs/storm.md", "Storm", []block{{"make storm", "TestStorm has sixty of its faults"}}},
}

var fencedCommands = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// typable returns the blocks of commands of a section that are typed.
func typable(t *testing.T, page, heading string) (typed []string) {
	t.Helper()
	at := slices.IndexFunc(sections, func(s section) bool { return s.page == page && s.heading == heading })
	if at < 0 {
		t.Fatalf("%s, %q is none of the sections", page, heading)
	}
	for i, commands := range sections[at].read(t) {
		if sections[at].blocks[i].untyped == "" {
			typed = append(typed, commands)
		}
	}
	return typed
}

func (s section) read(t *testing.T) (blocks []string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", s.page))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut("\n"+string(content), "# "+s.heading+"\n")
	if !found {
		t.Fatalf("%s lacks the heading %q", s.page, s.heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, match := range fencedCommands.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, match[1])
	}
	if len(blocks) != len(s.blocks) {
		t.Fatalf("%s, %q has %d blocks of commands, want %d: %q", s.page, s.heading, len(blocks), len(s.blocks), blocks)
	}
	for i, block := range s.blocks {
		if !strings.Contains(blocks[i], block.word) {
			t.Fatalf("%s, %q: block %d lacks %q:\n%s", s.page, s.heading, i+1, block.word, blocks[i])
		}
	}
	return blocks
}

var made = regexp.MustCompile(`(?m)(?:^|" )make ([a-z-]+)`)

// TestSections: no block of commands is in a page that no test knows of, and those that nobody types are a shell's, and make what the
// Makefile has.
func TestSections(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for _, s := range sections {
		blocks := s.read(t)
		want[s.page] += len(blocks)
		for _, block := range blocks {
			if output, err := exec.Command("bash", "-n", "-c", block).CombinedOutput(); err != nil {
				t.Errorf("%s, %q: %v: %s", s.page, s.heading, err, output)
			}
			for _, match := range made.FindAllStringSubmatch(block, -1) {
				if !strings.Contains(string(makefile), "\n"+match[1]+": ") {
					t.Errorf("%s, %q: there is no target %s", s.page, s.heading, match[1])
				}
			}
		}
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(pages, "../README.md") {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		page := strings.TrimPrefix(path, "../")
		if got := len(fencedCommands.FindAllString(string(content), -1)); got != want[page] {
			t.Errorf("%s has %d blocks of commands, and sections has %d", page, got, want[page])
		}
	}
}

var fencedConfiguration = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestRecipes: what README.md has for the configuration is one.
func TestRecipes(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	recipes := 0
	for _, block := range fencedConfiguration.FindAllSubmatch(content, -1) {
		section, commands, _ := strings.Cut(string(block[1]), "\n")
		for command := range strings.Lines(commands) { // of which people leave one
			recipes++
			if _, err := config.Parse("README.md", []byte(section+"\n  "+strings.TrimLeft(command, "# "))); err != nil {
				t.Errorf("%v in\n%s", err, command)
			}
		}
	}
	if recipes != 3 {
		t.Errorf("README.md has %d recipes for the alarm, want one for mail, a phone and a unit", recipes)
	}
}

// types has a person type a block of commands at a terminal, who says yes to what is asked, and returns what was shown.
func types(t *testing.T, who *machine.Scope, block string) string {
	t.Helper()
	output, err := typed(t, who, block)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func typed(t *testing.T, who *machine.Scope, block string) (string, error) {
	t.Helper()
	const terminal = `import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(["bash", "-euc", "cd\n" + sys.argv[1]])))`
	ctx, cancel := context.WithTimeout(t.Context(), 4*bound)
	defer cancel()
	cmd := who.Command(ctx, "python3", "-c", terminal, block)
	cmd.Stdin = strings.NewReader("y\n")
	output, err := cmd.CombinedOutput()
	t.Logf("typed:\n%s\nshown:\n%s", block, output)
	return string(output), err
}

func maySudo(t *testing.T, m *machine.Machine, user *machine.Scope) {
	t.Helper()
	m.As(m.System()).WriteFile(t, "/etc/sudoers.d/"+user.User, user.User+" ALL=(ALL) NOPASSWD: ALL\n", 0o440)
}

// stockOpenClaw has a user set up OpenClaw's own service, by its own command.
func stockOpenClaw(t *testing.T, m *machine.Machine, user *machine.Scope) machine.Unit {
	t.Helper()
	maySudo(t, m, user)
	user.Run(t, "openclaw", "gateway", "install")
	awaitAnswer(t, m)
	return isStock(t, m, user)
}

// isStock is OpenClaw's own unit, which has the port.
func isStock(t *testing.T, m *machine.Machine, user *machine.Scope) machine.Unit {
	t.Helper()
	stock := user.Unit(t, service)
	if got := onlyHolder(t, m, ipv4); stock.ActiveState != "active" || got != stock.MainPID {
		t.Fatalf("%s is held by pid %d, OpenClaw's own unit is %+v", ipv4, got, stock)
	}
	if command := user.Property(t, service, "ExecStart"); !strings.Contains(command, "openclaw/dist/index.js") {
		t.Fatalf("OpenClaw's own unit runs %s", command)
	}
	return stock
}

// TestReadme goes from a stock OpenClaw to ours, for the whole machine, by what docs/openclaw.md tells to type.
func TestReadme(t *testing.T) {
	t.Parallel()
	m, alice := adoptable(t, place{})
	stock := stockOpenClaw(t, m, alice)
	for _, block := range typable(t, "docs/openclaw.md", "For the whole machine") {
		types(t, alice, block)
	}
	before := inodes(t, m)
	if alive(t, m, stock.MainPID) {
		t.Errorf("OpenClaw of its own unit, pid %d, lives", stock.MainPID)
	}
	if command := m.Property(t, service, "ExecStart"); !strings.Contains(command, gatewayPath) {
		t.Errorf("%s runs %s", service, command)
	}
	if state := alice.Unit(t, service).LoadState; state != "not-found" {
		t.Errorf("OpenClaw's own unit is %s", state)
	}
	for _, address := range []string{ipv4, ipv6} {
		if got := holding(t, m, before[address]); !slices.Equal(got, []int{m.ManagerPID(t)}) {
			t.Errorf("%s is held by %v, want systemd alone", address, got)
		}
	}
	if state := m.Unit(t, service).ActiveState; state != "inactive" {
		t.Errorf("%s is %s before anybody connected", service, state)
	}
	asksOurs(t, m, alice)
	checkFamily(t, m, before)
	if output := alice.Run(t, gatewayPath, "status"); !strings.HasPrefix(output, "ok: generation 1 serves") {
		t.Errorf("gateway status:\n%s", output)
	}
	silent(t, m.Scope)
}

// asksOurs has a person type what docs/openclaw.md has for an OpenClaw that is behind the launcher, and the launcher's first
// generation answer it.
func asksOurs(t *testing.T, m *machine.Machine, who *machine.Scope) {
	t.Helper()
	if output := types(t, who, typable(t, "docs/openclaw.md", "What adopt does")[1]); !strings.Contains(output, `"ok":true`) || !strings.Contains(output, "generation 1") {
		t.Errorf("the first client is not answered by generation 1:\n%s", output)
	}
	serving(t, m.Scope, 1)
}

// escapes is the incident: an OpenClaw that no unit keeps running has the port, and the service cannot start again. settled is for
// afterwards.
func escapes(t *testing.T, m *machine.Machine, user *machine.Scope) (orphan int, settled func()) {
	t.Helper()
	a := m.As(user)
	user.Systemctl(t, "stop", service)
	// With a state directory of its own, so that it is the port that the two are after.
	user.Run(t, "sh", "-c", "OPENCLAW_STATE_DIR=$HOME/old setsid "+nodePath+" "+machineEntry+" gateway run --port 18789 --bind loopback --allow-unconfigured >/dev/null 2>&1 </dev/null &")
	awaitAnswer(t, m)
	orphan = onlyHolder(t, m, ipv4)
	// Where there is lsof, an OpenClaw that knows that it is a service may end the other one itself.
	path := unitPath(user, service) + ".d/unmarked.conf"
	a.WriteFile(t, path, "[Service]\nUnsetEnvironment=OPENCLAW_SERVICE_MARKER\n", 0o644)
	user.Systemctl(t, "daemon-reload")
	user.Systemctl(t, "start", service)
	user.WaitUnit(t, service, 4*bound, func(u machine.Unit) bool { return u.NRestarts > 0 || u.ActiveState == "failed" })
	if got := onlyHolder(t, m, ipv4); got != orphan {
		t.Fatalf("%s is held by pid %d, want the one that has escaped, %d", ipv4, got, orphan)
	}
	return orphan, func() {
		t.Helper()
		a.Run(t, "rm", "-r", unitPath(user, service)+".d")
		user.Systemctl(t, "daemon-reload")
	}
}

// fromPackage is a person who has README.md, an OpenClaw that runs as OpenClaw sets it up, the package in their home, and no
// compiler: three typed commands, and it is behind the launcher.
func fromPackage(t *testing.T, m *machine.Machine, alice *machine.Scope, deb string) {
	t.Helper()
	root := m.As(m.System())
	const compilers = "go gcc cc g++ c++ clang make"
	root.Run(t, "sh", "-euc", fmt.Sprintf("for name in %s; do while found=$(command -v $name); do rm \"$found\"; done; done; ! command -v %[1]s", compilers))
	root.Run(t, "cp", deb, alice.Home())
	root.Run(t, "sh", "-euc", "! command -v gateway")
	stock := stockOpenClaw(t, m, alice)

	adopt := typable(t, "README.md", "`gateway adopt`")
	var said string
	commands := []string{typable(t, "README.md", "Get it")[0], adopt[0], adopt[1]}
	for _, command := range commands {
		if strings.Count(command, "\n") != 1 {
			t.Fatalf("this is no single command: %q", command)
		}
		said = types(t, alice, command)
	}
	if !strings.Contains(said, "\nok: generation 1 serves") { // the terminal shows what is typed, too
		t.Errorf("after %q the status is\n%s", commands, said)
	}
	if alive(t, m, stock.MainPID) {
		t.Errorf("OpenClaw of its own unit, pid %d, lives", stock.MainPID)
	}
	a := m.As(alice)
	if command := a.Property(t, service, "ExecStart"); !strings.Contains(command, "path=/usr/bin/gateway ;") {
		t.Errorf("%s runs %s", service, command)
	}
	// The other tests have the program elsewhere.
	root.Run(t, "ln", "-s", "/usr/bin/gateway", gatewayPath)
	checkFamily(t, a, inodes(t, m))
	silent(t, root.Scope)
	root.Run(t, "rm", gatewayPath)
}
