package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// containersPage is what a reader of docs/containers.md copies.
func containersPage(t *testing.T) (dockerfile, configuration string) {
	t.Helper()
	page, err := os.ReadFile("../docs/containers.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(language string) string {
		_, rest, found := strings.Cut(string(page), "```"+language+"\n")
		text, _, closed := strings.Cut(rest, "```\n")
		if !found || !closed {
			t.Fatalf("docs/containers.md has no block of %s", language)
		}
		return text
	}
	return block("dockerfile"), block("yaml")
}

// instruction returns what stands behind an instruction of a Dockerfile, of the last one of those.
func instruction(t *testing.T, dockerfile, name, with string) (arguments string) {
	t.Helper()
	for line := range strings.Lines(dockerfile) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok && strings.Contains(rest, with) {
			arguments = strings.TrimSpace(rest)
		}
	}
	if arguments == "" {
		t.Fatalf("the Dockerfile has no %s with %q:\n%s", name, with, dockerfile)
	}
	return arguments
}

// image is what the Dockerfile puts into a folder: the program, Node.js, the configuration and a server.
type image struct {
	folder     string
	entrypoint []string
}

const containerWorker = `
const http = require("node:http")
const server = http.createServer((request, response) => {
  if (request.url === "/slow") return setTimeout(() => response.end("slow " + process.env.GATEWAY_GENERATION), 1000)
  if (request.url === "/stray") {
    const start = (seconds, options) => require("node:child_process").spawn("/usr/bin/sleep", [seconds], {stdio: "ignore", ...options}).unref()
    start("1000", {detached: true})
    // Without the launcher's mark: in its session, and with the socket.
    start("1001", {env: {}})
    start("1002", {env: {}, detached: true, stdio: ["ignore", "ignore", "ignore", server._handle.fd]})
  }
  response.end(process.env.GATEWAY_GENERATION + " " + request.socket.remoteAddress)
})
server.listen(18789, "0.0.0.0")
process.on("SIGTERM", () => server.close(() => process.exit(0)))
`

func newImage(t *testing.T) image {
	t.Helper()
	dockerfile, configuration := containersPage(t)
	// Not t.TempDir, which other users cannot enter.
	folder, err := os.MkdirTemp("", "image")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	// As the first stage builds it, with another place for the result.
	build := strings.ReplaceAll(instruction(t, dockerfile, "RUN", "go build"), "-o /gateway ", "-o "+folder+"/gateway ")
	command := exec.Command("/bin/sh", "-c", build)
	command.Dir = ".."
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, output)
	}
	// The server stands for OpenClaw; all else is as the page has it.
	line := regexp.MustCompile(`(?m)^  command: \[.*\]$`)
	if !line.MatchString(configuration) {
		t.Fatalf("the configuration has no command:\n%s", configuration)
	}
	configuration = line.ReplaceAllString(configuration, `  command: ["/opt/node", "/opt/server.js"]`)
	configuration = strings.Replace(configuration, "ready:\n  path: /startupz\n", "", 1)
	var entrypoint []string
	if err := json.Unmarshal([]byte(instruction(t, dockerfile, "ENTRYPOINT", "")), &entrypoint); err != nil {
		t.Fatal(err)
	}
	node, err := os.ReadFile(required(t, "NODE"))
	err = errors.Join(
		err, os.Chmod(folder, 0o755), os.WriteFile(folder+"/node", node, 0o755), os.WriteFile(folder+"/server.js", []byte(containerWorker), 0o644),
		os.MkdirAll(folder+"/etc", 0o755), os.WriteFile(folder+"/etc/config.yaml", []byte(configuration), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	return image{folder, entrypoint}
}

// container is a launcher that is the first process of a PID namespace, in namespaces of its own, with a read-only root, without
// control groups to write to, and with an empty /run.
type container struct {
	t       *testing.T
	pid     int // on the host
	command *exec.Cmd
	user    string
	ended   chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (c *container) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(text)
}

func (c *container) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

// start runs the image as a user, with what mounts says done before.
func (i image) start(t *testing.T, user, mounts string) *container {
	t.Helper()
	script := `set -eu
ip link set lo up
mount -t proc proc /proc
mount --bind ` + i.folder + ` /opt
mount -t tmpfs tmpfs /run
mount -o remount,ro /run
for groups in $(awk '$3 == "cgroup2" {print $2}' /proc/mounts); do mount -o remount,bind,ro "$groups"; done
mount -t tmpfs tmpfs /etc
` + mounts + `
mkdir /etc/openclaw-gateway
cp /opt/etc/config.yaml /etc/openclaw-gateway/config.yaml
printf 'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/:/bin/sh\n' >/etc/passwd
mount -o remount,ro /etc
mount -o remount,bind,ro /opt
mount -o remount,bind,ro /
cd /
exec setpriv --reuid=` + user + ` --regid=` + user + ` --clear-groups env -i PATH=/opt:/usr/bin:/bin ` + strings.Join(i.entrypoint, " ")
	c := &container{t: t, user: user, ended: make(chan struct{})}
	c.command = exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount", "--net", "--ipc", "--uts", "--propagation", "private", "/bin/sh", "-c", script)
	c.command.Stdout, c.command.Stderr = c, c
	// Whatever its parent runs in, systemd is not told of.
	c.command.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.command.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-c.ended:
		default:
			// Its death is that of the namespace. A change of user has taken back what --kill-child asks for.
			if pid := c.first(); pid != 0 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			_ = c.command.Process.Kill()
			<-c.ended
		}
	})
	return c
}

// await calls look until it says that it has seen what it looks for.
func (c *container) await(what string, look func() bool) {
	c.t.Helper()
	for end := time.Now().Add(bound); !look(); {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-c.ended:
			c.t.Fatalf("the container has ended before %s:\n%s", what, c.logged())
		}
		if time.Now().After(end) {
			c.t.Fatalf("not seen: %s\n%s", what, c.logged())
		}
	}
}

// first is the first process of the container, as a child of unshare's, which has not waited for it yet.
func (c *container) first() int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.command.Process.Pid, c.command.Process.Pid))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(children)))
	return pid
}

// up waits until the launcher is the first process, and listens.
func (c *container) up() {
	c.t.Helper()
	c.await("the launcher", func() bool {
		c.pid = c.first()
		argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.pid))
		return c.pid != 0 && strings.HasPrefix(string(argv), "gateway\x00run\x00") && strings.Contains(c.logged(), "listening")
	})
}

// exec is docker exec: a process of the container whose parent is outside.
func (c *container) exec(argv ...string) (string, int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), bound)
	defer cancel()
	enter := []string{"--target", strconv.Itoa(c.pid), "--pid", "--mount", "--net", "--ipc", "--uts", "--wd=/", "--", "setpriv", "--reuid=" + c.user, "--regid=" + c.user, "--clear-groups", "env", "-i", "PATH=/opt:/usr/bin:/bin"}
	output, err := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...).CombinedOutput()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case failed && ctx.Err() == nil:
		return string(output), exit.ExitCode()
	case err != nil:
		c.t.Fatalf("%q: %v\n%s", argv, err, output)
	}
	return string(output), 0
}

// get asks the server from outside of the PID namespace, whose end is not the client's.
func (c *container) get(path string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), bound)
	defer cancel()
	script := `fetch("http://127.0.0.1:18789` + path + `").then(r => r.text()).then(t => process.stdout.write(t))`
	body, err := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(c.pid), "--net", "--", required(c.t, "NODE"), "-e", script).CombinedOutput()
	if err != nil {
		c.t.Errorf("GET %s: %v\n%s", path, err, body)
	}
	return string(body)
}

// processes are those of the container: state and arguments by pid on the host.
func (c *container) processes() map[int]string {
	c.t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.pid))
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		if its, err := os.Readlink(entry + "/ns/pid"); err != nil || its != own {
			continue
		}
		stat, _ := os.ReadFile(entry + "/stat")
		argv, _ := os.ReadFile(entry + "/cmdline")
		_, state, _ := strings.Cut(string(stat), ") ")
		pid, _ := strconv.Atoi(filepath.Base(entry))
		all[pid] = state[:min(1, len(state))] + " " + strings.ReplaceAll(string(argv), "\x00", " ")
	}
	return all
}

func (c *container) counts(words string) (n int) {
	for _, process := range c.processes() {
		if strings.Contains(process, words) {
			n++
		}
	}
	return n
}

// TestContainer: the image of docs/containers.md, as an ordinary user and as root.
func TestContainer(t *testing.T) {
	t.Parallel()
	of := newImage(t)
	for name, user := range map[string]string{"as node": "1000", "as root": "0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testContainer(t, of, user)
		})
	}
	t.Run("nothing can be written", func(t *testing.T) {
		c := of.start(t, "1000", "mount -t tmpfs -o ro tmpfs /tmp")
		<-c.ended
		if code := c.command.ProcessState.ExitCode(); code != 1 || !strings.Contains(c.logged(), "has to be a tmpfs, or XDG_RUNTIME_DIR the path of one") {
			t.Errorf("exit status %d\n%s", code, c.logged())
		}
	})
}

func testContainer(t *testing.T, of image, user string) {
	c := of.start(t, user, "mount -t tmpfs tmpfs /tmp")
	c.up()
	if body := c.get("/"); body != "1 127.0.0.1" {
		t.Errorf("the server answers %q", body)
	}
	if text, code := c.exec("gateway", "status"); code != 0 || !strings.HasPrefix(text, "ok: generation 1 serves 0.0.0.0:18789\n") {
		t.Errorf("gateway status: exit status %d\n%s", code, text)
	}
	if text, code := c.exec("gateway", "config", "check"); code != 0 || !strings.Contains(text, "nothing would change") {
		t.Errorf("gateway config check: exit status %d\n%s", code, text)
	}
	if text, code := c.exec("gateway", "doctor"); !strings.Contains(text, "this machine does not run systemd") || code == 1 {
		t.Errorf("gateway doctor: exit status %d\n%s", code, text)
	}

	// What others have started there: it is reaped when it ends, and left alone as long as it lives.
	c.exec("/bin/sh", "-c", "sleep 0.1 & sleep 9999 >/dev/null 2>&1 </dev/null &")
	c.await("the orphan's end", func() bool { return c.counts("sleep 0.1") == 0 && c.counts("Z ") == 0 })
	if body := c.get("/stray"); body != "1 127.0.0.1" {
		t.Errorf("the server answers %q", body)
	}
	if c.counts("sleep 100") != 3 {
		t.Fatalf("the server has started nothing: %v", c.processes())
	}
	if text, code := c.exec("gateway", "restart"); code != 0 {
		t.Errorf("gateway restart: exit status %d\n%s", code, text)
	}
	if body := c.get("/"); body != "2 127.0.0.1" {
		t.Errorf("the server answers %q", body)
	}
	if c.counts("sleep 9999") != 1 || c.counts("sleep 100") != 0 {
		t.Errorf("after a restart there are %v, want what docker exec has started and nothing of the first generation", c.processes())
	}

	// Nor does a crash, after which nothing else of the worker's is alive.
	ask := func() (s status) {
		text, _ := c.exec("gateway", "status", "--json")
		_ = json.Unmarshal([]byte(text), &s)
		return s
	}
	c.get("/stray")
	c.exec("kill", "-KILL", strconv.Itoa(ask().Worker.PID))
	c.await("the next generation", func() bool { s := ask(); return s.Worker.Generation == 3 && s.Verdict != "starting" })
	if body := c.get("/"); body != "3 127.0.0.1" || c.counts("sleep 9999") != 1 || c.counts("sleep 100") != 0 {
		t.Errorf("after a crash the server answers %q, and there are %v", body, c.processes())
	}

	// The stop of the container lets a request end.
	slow := make(chan string)
	go func() { slow <- c.get("/slow") }()
	c.await("the request", func() bool {
		text, _ := c.exec("gateway", "status", "--json")
		var s status
		return json.Unmarshal([]byte(text), &s) == nil && strings.Contains(text, `"connections": 1`)
	})
	if err := unix.Kill(c.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if body := <-slow; body != "slow 3" {
		t.Errorf("the request under way got %q", body)
	}
	select {
	case <-c.ended:
	case <-time.After(bound):
		t.Fatalf("it has not ended:\n%s", c.logged())
	}
	if code := c.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	lines := bufio.NewScanner(strings.NewReader(c.logged()))
	said := 0
	for ; lines.Scan(); said++ {
		var line struct{ Time, Level, Msg string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Msg == "" {
			t.Errorf("a line of the log is no JSON: %s", lines.Text())
		}
	}
	if said < 5 {
		t.Errorf("the log:\n%s", c.logged())
	}
}
