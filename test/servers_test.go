package test

import (
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// mayHang reports whether a server does not always end when it is stopped gracefully. Started without a launcher they hung, too:
//   - puma, behind "Gracefully stopping, waiting for requests to finish" and without a request, or behind "Gracefully shutting down workers",
//     of which one waits on a futex: once in the first few of its lives that got SIGTERM 50 ms after its workers had booted;
//   - HAProxy 3.0, whose master goes to epoll_wait(2) with a SIGUSR1 that it has caught and not seen to. A second one
//     ends it.
func mayHang(name string) bool { return strings.HasPrefix(name, "puma") || name == "haproxy" }

// server is a row of the table of servers in docs/servers.md.
type server struct {
	name     string
	settings settings // its configuration
}

// breaksOff has the servers that, stopped gracefully, close a connection that they have just accepted and not read from yet, or are killed
// in the end. Node.js's cluster does where no process of it has got it yet (RoundRobinHandle.remove in lib/internal/cluster/round_robin_handle.js).
var breaksOff = []string{"uvicorn", "puma", "Caddy, from 2.9", "Go", "Node.js cluster", "haproxy"}

// TestServers has each server of the table in docs/servers.md behind the launcher, configured as its row says: the first client starts
// it, restarts under load refuse nobody, and a stop leaves nothing of it.
func TestServers(t *testing.T) {
	t.Parallel()
	servers := pageServers(t)
	m := bootWithServers(t)
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { testServer(t, m, s) })
	}
	t.Run("in the background", func(t *testing.T) { testBackground(t, m, servers) })
}

// testBackground has nginx do what it does where nobody says otherwise: it goes to the background. That is said, and the line which is
// named helps.
func testBackground(t *testing.T, m *machine.Machine, servers []server) {
	i := slices.IndexFunc(servers, func(s server) bool { return s.name == "nginx" })
	nginx := server{settings: maps.Clone(servers[i].settings)}
	command := slices.Clone(nginx.settings["worker.command"].([]any))
	conf := command[len(command)-1].(string)
	// On a port of its own: it could not bind one that is held.
	m.WriteFile(t, "/srv/background.conf", strings.ReplaceAll(m.ReadFile(t, conf), ":8080;", ":8090;"), 0o644)
	nginx.settings["worker.command"] = []any{command[0], "-c", "/srv/background.conf"}
	delete(nginx.settings, "worker.environment")
	m.Run(t, "sh", "-euc", gatewayPath+" stop && rm -rf /var/lib/openclaw-gateway") // nothing to go back to
	install(t, m.Scope, m, nginx.settings.yaml(t))
	address := nginx.settings["listen"].([]any)[0].(string)
	if code, body := get(t, m, address, "/"); code != http.StatusServiceUnavailable {
		t.Errorf("a client is answered with %d %s", code, body)
	}
	const named = "-g 'daemon off;'"
	wantStatus(t, m.Scope, 1, "degraded", "it went to the background", "(nginx: "+named+";", ", left ", ", which were ended")

	nginx.settings["worker.environment"] = servers[i].settings["worker.environment"]
	nginx.settings["worker.command"] = append(command, "-g", "daemon off;")
	m.WriteFile(t, configPath(m.Scope), nginx.settings.yaml(t), 0o644)
	m.Run(t, gatewayPath, "reload")
	if code, body := get(t, m, address, "/"); code != http.StatusOK {
		t.Errorf("in the foreground a client is answered with %d %s", code, body)
	}
	m.Run(t, gatewayPath, "stop")
	nobody(t, m)
}

func testServer(t *testing.T, m *machine.Machine, s server) {
	address := s.settings["listen"].([]any)[0].(string)
	s.settings["stop.timeout"] = "20s" // one that hangs in its end is not waited for
	install(t, m.Scope, m, s.settings.yaml(t))
	client, inFlight := address, 0
	if s.name == "php-fpm" {
		client = inFront(t, m)
	}
	if slices.Contains(breaksOff, s.name) {
		inFlight = 2 * loops
	}
	if code, body := get(t, m, client, "/"); code != http.StatusOK {
		t.Fatalf("the first client is answered with %d %s", code, body)
	}
	serving(t, m.Scope, 1)
	first := gatewayStatus(t, m.Scope)
	inode := first.Sockets[0].Inode
	underLoad(t, m, client, "/", inFlight, func(l *load.Load) {
		for generation := first.Worker.Generation + 1; generation <= first.Worker.Generation+2; generation++ {
			m.Run(t, gatewayPath, "restart")
			answered(t, l)
			now := gatewayStatus(t, m.Scope)
			if now.Verdict != "ok" || len(now.Problems)+len(now.Notes) > 0 || now.Worker.Generation != generation || now.Sockets[0].Inode != inode {
				t.Errorf("the status is %+v, want generation %d, the socket %d and nothing else to say", now, generation, inode)
			}
			exit := now.Worker.LastExit
			if killed := exit.Signal == "SIGKILL"; killed && !mayHang(s.name) || !killed && exit.Strays > 0 {
				t.Errorf("generation %d has ended with %+v, want an end by itself", generation-1, exit)
			}
		}
	})
	if s.name == "ws" {
		dialWebSocket(t, m, address).close(t)
	}
	m.Run(t, gatewayPath, "stop")
	nobody(t, m)
	if _, _, err := tryGet(t.Context(), m, address, "/"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s after gateway stop: %v, want nobody to listen", address, err)
	}
}

// bootWithServers starts a machine with all servers, and the programs that they run in /srv.
func bootWithServers(t *testing.T) *machine.Machine {
	t.Helper()
	m := boot(t, machine.Options{
		Root:  required(t, "SERVERS_ROOT"),
		Binds: map[string]string{"/node_modules": required(t, "SERVERS_MODULES"), "/usr/local/bin/caddy": required(t, "CADDY")},
	})
	programs := m.Root() + "/srv"
	if err := os.CopyFS(programs, os.DirFS("servers")); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", programs+"/server", "./servers/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the server in Go: %v\n%s", err, output)
	}
	m.Run(t, "javac", "-d", "/srv", "/srv/Server.java")
	return m
}

// inFront starts the web server that PHP is used with, and returns its address.
func inFront(t *testing.T, m *machine.Machine) (address string) {
	t.Helper()
	m.Run(t, "systemd-run", "--unit=front", "--service-type=forking", "nginx", "-c", "/srv/front.conf")
	t.Cleanup(func() { m.Systemctl(t, "stop", "front.service") })
	return "127.0.0.1:8080"
}

// pageServers reads the table of docs/servers.md, and the keys above it that come to each row. What a row wants in the server's
// own files is in ours.
func pageServers(t *testing.T) (servers []server) {
	t.Helper()
	content, err := os.ReadFile("../docs/servers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(content), "\n## Servers that are tested\n")
	section, _, _ = strings.Cut(section, "\n## ")
	prose, table, _ := strings.Cut(section, "\n|---|---|---|---|\n")
	paragraphs := strings.Split(prose, "\n\n")
	var common []string
	for _, snippet := range code(paragraphs[max(0, len(paragraphs)-2)]) { // the last one is the table's head
		if strings.HasPrefix(snippet, "listen: ") || strings.HasPrefix(snippet, "worker.directory: ") {
			common = append(common, snippet)
		}
	}
	var files strings.Builder
	err = fs.WalkDir(os.DirFS("servers"), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join("servers", path))
		files.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			continue
		}
		s := server{name: strings.TrimSpace(cells[1]), settings: settings{}}
		for _, snippet := range slices.Concat(common, []string{"worker.command: " + strings.Trim(cells[2], " `")}, code(cells[3])) {
			if err := yaml.Unmarshal([]byte(snippet), &s.settings); err != nil {
				t.Fatalf("%s: %s: %v", s.name, snippet, err)
			}
		}
		for _, line := range code(cells[4]) {
			if !strings.Contains(files.String(), line) {
				t.Errorf("%s: no file of test/servers has %s", s.name, line)
			}
		}
		servers = append(servers, s)
	}
	if len(common) != 2 || len(servers) < 14 {
		t.Fatalf("docs/servers.md has %q and %d servers, in\n%s", common, len(servers), section)
	}
	return servers
}

// code is what stands in backquotes.
func code(text string) (snippets []string) {
	for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		snippets = append(snippets, match[1])
	}
	return snippets
}
