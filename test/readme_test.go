package test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// readmeBlocks says, by a command of each, which blocks the way of README.md consists of. The first is not typed: the
// program is built already.
var readmeBlocks = []string{"make build", "cat > openclaw.yaml", "gateway install --user", "gateway install --system", "gateway status"}

const (
	readmeConfigure = iota + 1
	readmeUser
	readmeSystem
	readmeFirst
)

// TestReadme goes from a stock OpenClaw to ours by what README.md tells to type, as one who has nothing else.
func TestReadme(t *testing.T) {
	t.Parallel()
	in(t, testReadme, place{name: "system"}, place{name: "user of Debian 13", user: true, root: debian13})
}

func testReadme(t *testing.T, here place) {
	blocks := readmeWay(t)
	// As npm install --global leaves them.
	modules := filepath.Dir(filepath.Dir(filepath.Dir(required(t, "OPENCLAW_ENTRY"))))
	m := here.boot(t, machine.Options{Users: true, Binds: map[string]string{"/usr/local/lib/node_modules": modules}})
	alice, way := m.Scope, readmeUser
	if !here.user {
		alice, way = m.AddUser(t, "alice"), readmeSystem
	}
	root := m.As(m.System())
	root.Run(t, "ln", "-s", "../lib/node_modules/openclaw/openclaw.mjs", "/usr/local/bin/openclaw")
	// In what looks like a container OpenClaw listens on 0.0.0.0.
	root.Run(t, "rm", "-f", "/.dockerenv")
	root.WriteFile(t, "/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", 0o440)

	alice.Run(t, "openclaw", "gateway", "install")
	awaitAnswer(t, m)
	stock := alice.Unit(t, service)
	if got := onlyHolder(t, m, ipv4); stock.ActiveState != "active" || got != stock.MainPID {
		t.Fatalf("%s is held by pid %d, OpenClaw's own unit is %+v", ipv4, got, stock)
	}
	if command := alice.Property(t, service, "ExecStart"); !strings.Contains(command, "openclaw/dist/index.js") {
		t.Fatalf("OpenClaw's own unit runs %s", command)
	}

	paste := func(number int) string {
		t.Helper()
		output := alice.Run(t, "bash", "-euc", "cd\n"+blocks[number])
		t.Logf("typed:\n%s\nshown:\n%s", blocks[number], output)
		return output
	}
	paste(readmeConfigure)
	paste(way)
	before := inodes(t, m)
	for _, address := range []string{ipv4, ipv6} {
		if got := holding(t, m, before[address]); !slices.Equal(got, []int{m.ManagerPID(t)}) {
			t.Errorf("%s is held by %v, want systemd alone", address, got)
		}
	}
	if alive(t, m, stock.MainPID) {
		t.Errorf("OpenClaw of its own unit, pid %d, lives", stock.MainPID)
	}
	if command := m.Property(t, service, "ExecStart"); !strings.Contains(command, gatewayPath) {
		t.Errorf("%s runs %s", service, command)
	}
	if !here.user {
		if state := alice.Unit(t, service).LoadState; state != "not-found" {
			t.Errorf("OpenClaw's own unit is %s", state)
		}
	}
	if state := m.Unit(t, service).ActiveState; state != "inactive" {
		t.Errorf("%s is %s before anybody connected", service, state)
	}

	if output := paste(readmeFirst); !strings.Contains(output, `"ok":true`) || !strings.Contains(output, "generation 1") {
		t.Errorf("the first client is not answered by generation 1:\n%s", output)
	}
	serving(t, m.Scope, 1)
	checkFamily(t, m, before)
	if output := alice.Run(t, gatewayPath, "status"); !strings.HasPrefix(output, "ok: generation 1 serves") {
		t.Errorf("gateway status:\n%s", output)
	}
	silent(t, root.Scope)
	if here.user {
		alice.Run(t, gatewayPath, "restart")
		serving(t, m.Scope, 2)
		checkFamily(t, m, before)
		if code, body := get(t, m, ipv6, "/healthz"); code != http.StatusOK {
			t.Errorf("GET http://%s/healthz: %d %s", ipv6, code, body)
		}
	}
}

// readmeWay returns the blocks of commands of the section of README.md that begins with a stock OpenClaw.
func readmeWay(t *testing.T) []string {
	t.Helper()
	const heading = "\n## Under your own OpenClaw\n"
	blocks := readmeSection(t, heading)
	if len(blocks) != len(readmeBlocks) {
		t.Fatalf("the section has %d blocks of commands, want %d: %q", len(blocks), len(readmeBlocks), blocks)
	}
	for i, command := range readmeBlocks {
		if !strings.Contains(blocks[i], command) {
			t.Fatalf("block %d of the section lacks %q:\n%s", i+1, command, blocks[i])
		}
	}
	return blocks
}

// readmeSection returns the blocks of commands below a heading of README.md, up to the next one.
func readmeSection(t *testing.T, heading string) []string {
	t.Helper()
	content, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(content), heading)
	if !found {
		t.Fatalf("README.md lacks %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	var blocks []string
	for _, match := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}
