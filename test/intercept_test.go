package test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// own is a server that binds its address itself, as it comes. Where $ is in its command, that is its port, and @ the directory of its own.
type own struct {
	name, command string
	environment   []string
	more          settings // of its configuration
	file          string   // of test/servers/own, written to its directory
	restarts      int      // 0: 2
	install       []string // more of gateway install
	killed        bool     // its launcher is killed, too
	again         string   // what has it start its server again, a command for a shell; PID is that of the server
}

const modulesIn = "/node_modules/.bin/"

// owns are servers of every kind: one process, many with one socket, many with a socket each; the system's library or none; in front of
// them those that start another program again and again.
var owns = []own{
	{name: "node", command: "node node.js"},
	{name: "node-cluster", command: "node cluster.js"},
	{name: "bun", command: modulesIn + "bun bun.js"},
	{name: "deno", command: modulesIn + "deno run --allow-net --allow-env deno.js"},
	{name: "http-server", command: "python3 -m http.server --bind 127.0.0.1 $"},
	{name: "threading-http-server", command: "python3 threads.py"},
	{name: "aiohttp", command: "python3 aio.py"},
	{name: "waitress", command: "waitress-serve --listen=127.0.0.1:$ app:application"},
	{name: "gunicorn", command: "gunicorn --workers 2 --bind 127.0.0.1:$ app:application"},
	{name: "gunicorn-reuse-port", command: "gunicorn --workers 2 --reuse-port --bind 127.0.0.1:$ app:application"},
	{name: "uvicorn", command: "uvicorn --port $ app:asgi"},
	{name: "uvicorn-workers", command: "uvicorn --port $ --workers 2 app:asgi"},
	{name: "puma", command: "puma --bind tcp://127.0.0.1:$ config.ru"},
	{name: "puma-cluster", command: "puma --workers 2 --bind tcp://127.0.0.1:$ config.ru"},
	{name: "uwsgi", command: "uwsgi --plugin python3 --http-socket 127.0.0.1:$ --master --processes 2 --die-on-term --wsgi-file app.py"},
	{name: "go", command: "/srv/own/server"},
	{name: "go-hardened", command: "/srv/own/server", install: []string{"--hardened"}},
	{name: "go-killed", command: "setsid --fork --wait /srv/own/server", killed: true},
	{name: "caddy", command: "caddy run --config Caddyfile"},
	{name: "java", command: "java -cp /srv/own Plain"},
	{name: "netty", command: "java -cp /srv/own:/usr/share/java/* Netty"},
	{name: "nginx", command: "nginx -p @ -c nginx.conf", file: "nginx.conf", more: settings{"stop.signal": "SIGQUIT"}},
	{name: "nginx-reuseport", command: "nginx -p @ -c nginx-reuseport.conf", file: "nginx-reuseport.conf", more: settings{"stop.signal": "SIGQUIT"}},
	{name: "haproxy", command: "haproxy -W -f haproxy.cfg", file: "haproxy.cfg", more: settings{"stop.signal": "SIGUSR1"}},
	{name: "lighttpd", command: "lighttpd -D -f lighttpd.conf", file: "lighttpd.conf", more: settings{"stop.signal": "SIGINT"}},
	{name: "apache", command: "apache2 -D FOREGROUND -f @/apache.conf", file: "apache.conf", more: settings{"stop.signal": "SIGWINCH"}},
	{name: "php", command: "php -S 127.0.0.1:$ -t /srv"},
	{name: "pm2-runtime", command: modulesIn + "pm2-runtime start node.js", again: "kill PID"},
	{name: "nodemon", command: modulesIn + "nodemon --signal SIGTERM node.js", again: "touch @/node.js"},
	{name: "npm", command: modulesIn + "npm start"},
	{name: "node-watch", command: "node --watch node.js", again: "touch @/node.js"},
	{name: "tsx", command: modulesIn + "tsx server.ts"},
}

// TestIntercept has each of these servers behind the launcher, as a service of an unprivileged user: the first client starts it, restarts
// refuse nobody, and a stop leaves nothing of it. All are instances in one machine.
func TestIntercept(t *testing.T) {
	t.Parallel()
	m := boot(t, machine.Options{
		Root: required(t, "SERVERS_ROOT"),
		Binds: map[string]string{
			"/node_modules": required(t, "SERVERS_MODULES"), "/usr/local/bin/caddy": required(t, "CADDY"),
			"/opt/present/node_modules": modulesOf(t, "OPENCLAW_ENTRY"), "/opt/old/node_modules": modulesOf(t, "OLD_OPENCLAW_ENTRY"),
		},
	})
	programs := m.Root() + "/srv"
	if err := os.CopyFS(programs, os.DirFS("servers")); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", programs+"/own/server", "./servers/own/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the server in Go: %v\n%s", err, output)
	}
	m.Run(t, "javac", "-d", "/srv/own", "-cp", "/usr/share/java/*", "/srv/own/Plain.java", "/srv/own/Netty.java")
	servers := owns
	for _, claw := range []struct{ name, folder string }{{"openclaw", "/opt/present"}, {"openclaw-old", "/opt/old"}} {
		for _, entry := range []string{"openclaw.mjs", "dist/index.js"} {
			servers = append(servers, openClawOf(claw.name+"-"+strings.TrimSuffix(path.Base(entry), path.Ext(entry)), claw.folder+"/node_modules/openclaw/"+entry))
		}
	}
	t.Run("of them", func(t *testing.T) {
		for i, s := range servers {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				testOwn(t, m, s, 19000+40*i)
			})
		}
		testAuto(t, m, 18500)
	})
}

// testAuto has servers that nobody has said anything about: one that binds its address itself is given the socket for that in the next
// generation, which is remembered, and so is a Node.js with its server in another process; one behind npm in the first; and where it has no price, nobody has to ask.
func testAuto(t *testing.T, m *machine.Machine, port int) {
	for i, test := range []struct {
		name, command string
		flags         []string
		generation    int // that serves first
		price         bool
	}{
		{"auto", "python3 -m http.server --bind 127.0.0.1 $", []string{"--run-as", "www-data"}, 2, true},
		{"auto-npm", modulesIn + "npm start", []string{"--run-as", "www-data"}, 1, true},
		{"auto-child", "node child.js", []string{"--run-as", "www-data"}, 2, true},
		{"auto-child-root", "node child.js", []string{"--run-as", "root"}, 2, false},
		{"auto-root", "python3 -m http.server --bind 127.0.0.1 $", []string{"--run-as", "root"}, 1, false},
		{"auto-hardened", "python3 -m http.server --bind 127.0.0.1 $", []string{"--run-as", "www-data", "--hardened"}, 1, false},
		{"auto-listen-fds", "gunicorn --workers 2 app:application", []string{"--run-as", "root"}, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRow(t, m, own{name: test.name, command: test.command}, port+i)
			r.install(test.flags...)
			wants := func(generation int) {
				t.Helper()
				if code, body := get(t, m, r.address, "/"); code != http.StatusOK {
					t.Fatalf("a client is answered with %d %s", code, body)
				}
				handoff := "intercept"
				if test.name == "auto-listen-fds" {
					handoff = "listen-fds"
				}
				now := r.await(func(s status) bool { return s.Worker.State == "ready" && s.Worker.Handoff == handoff })
				if now.Verdict != "ok" || now.Worker.Generation != generation || now.Worker.NoNewPrivs != test.price || (len(now.Notes) > 0) != test.price {
					t.Errorf("the status is %+v, want generation %d, and a price: %v", now, generation, test.price)
				}
				if test.price && !strings.Contains(now.Notes[0], "sudo, su, ping") {
					t.Errorf("the notes are %q", now.Notes)
				}
			}
			wants(test.generation)
			r.gateway("restart")
			wants(test.generation + 1)
			m.Systemctl(t, "restart", "openclaw-gateway-"+test.name+".service")
			wants(test.generation + 2)
			var report struct {
				Findings []struct{ ID, Summary string }
			}
			output, _ := m.Output(gatewayPath, "doctor", "--json", "--name", test.name)
			if err := json.Unmarshal([]byte(output), &report); err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			told := slices.ContainsFunc(report.Findings, func(f struct{ ID, Summary string }) bool {
				return f.ID == "worker-unprivileged" && strings.Contains(f.Summary, "sudo, su, ping")
			})
			if told != test.price {
				t.Errorf("doctor tells of the price: %v, want %v\n%s", told, test.price, output)
			}
			r.gateway("stop")
			r.gateway("uninstall", "--system")
		})
	}
}

// modulesOf is the folder of the OpenClaw whose entry that variable names: …/node_modules/openclaw/dist/index.js.
func modulesOf(t *testing.T, entry string) string {
	t.Helper()
	return filepath.Dir(filepath.Dir(filepath.Dir(required(t, entry))))
}

// openClawOf is an OpenClaw by one of its entries: openclaw.mjs starts itself again as another process.
func openClawOf(name, entry string) own {
	return own{
		name: name, command: "node " + entry + " gateway run --port $ --bind loopback --allow-unconfigured",
		environment: []string{
			"OPENCLAW_SUPERVISOR_MODE=external", "OPENCLAW_SERVICE_REPAIR_POLICY=external", "OPENCLAW_GATEWAY_PORT=$",
			"OPENCLAW_GATEWAY_TOKEN=a-token-that-is-long-enough-for-a-test",
		},
		more:     settings{"listen": []string{"127.0.0.1:$", "[::1]:$"}, "ready.path": "/healthz", "stop.timeout": "60s"},
		restarts: 1, // it starts for ten seconds or more
	}
}

// answeredBy asks a server which process it is, of which generation.
func answeredBy(t *testing.T, m *machine.Machine, address string) (generation, pid int) {
	t.Helper()
	_, body := get(t, m, address, "/")
	if _, err := fmt.Sscanf(body, "generation %d pid %d", &generation, &pid); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return generation, pid
}

// anotherAnswers waits until another process than that one answers, and returns its generation. That one may break off what it is
// just answering, when it is ended.
func anotherAnswers(t *testing.T, m *machine.Machine, address string, pid int) (generation int) {
	t.Helper()
	for deadline := time.Now().Add(bound); ; {
		var by int
		_, body, err := tryGet(t.Context(), m, address, "/")
		if _, scanned := fmt.Sscanf(body, "generation %d pid %d", &generation, &by); err == nil && scanned == nil && by != pid {
			return generation
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v: want another process than %d to answer", body, err, pid)
		}
	}
}

// row is such a server as an instance of the gateway.
type row struct {
	t       *testing.T
	m       *machine.Machine
	name    string
	address string
	fill    func(text string) string // of the command and the files
}

// newRow writes its files and its configuration.
func newRow(t *testing.T, m *machine.Machine, s own, port int) row {
	t.Helper()
	here := "/srv/" + s.name
	fill := strings.NewReplacer("$", fmt.Sprint(port), "@PORT@", fmt.Sprint(port), "@DIRECTORY@", here, "@", here).Replace
	if s.file != "" {
		m.WriteFile(t, here+"/"+s.file, strings.NewReplacer("@PORT@", fmt.Sprint(port), "@DIRECTORY@", here).Replace(m.ReadFile(t, "/srv/own/"+s.file)), 0o644)
	}
	m.Run(t, "sh", "-euc", fmt.Sprintf("mkdir -p %[1]s && cp -n /srv/own/*.* /srv/own/Caddyfile %[1]s && chown -R www-data: %[1]s", here))
	configuration := settings{
		"listen": []string{"127.0.0.1:$"}, "worker.command": strings.Fields(s.command), "worker.directory": here, "stop.timeout": "20s",
		"worker.environment": append([]string{"PORT=$", "HOME=" + here, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, s.environment...),
	}
	maps.Copy(configuration, s.more)
	m.WriteFile(t, "/etc/openclaw-gateway-"+s.name+"/config.yaml", fill(configuration.yaml(t)), 0o644)
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := m.Output("journalctl", "--no-pager", "--unit", "openclaw-gateway-"+s.name+".*")
			t.Logf("%s", journal)
		}
	})
	return row{t, m, s.name, fmt.Sprintf("127.0.0.1:%d", port), fill}
}

func (r row) gateway(verb string, more ...string) string {
	r.t.Helper()
	return r.m.Run(r.t, gatewayPath, append([]string{verb, "--name", r.name}, more...)...)
}

func (r row) install(flags ...string) {
	r.t.Helper()
	r.gateway("install", append([]string{"--system", "--now"}, flags...)...)
}

func (r row) status() (now status) {
	r.t.Helper()
	output, _ := r.m.Output(gatewayPath, "status", "--json", "--name", r.name)
	if err := json.Unmarshal([]byte(output), &now); err != nil {
		r.t.Fatalf("%v\n%s", err, output)
	}
	return now
}

func (r row) await(match func(status) bool) (now status) {
	r.t.Helper()
	for deadline := time.Now().Add(bound); !match(now); now = r.status() {
		if time.Now().After(deadline) {
			r.t.Fatalf("the status is %+v", now)
		}
	}
	return now
}

func testOwn(t *testing.T, m *machine.Machine, s own, port int) {
	s.more = maps.Clone(s.more)
	if s.more == nil {
		s.more = settings{}
	}
	s.more["worker.handoff"] = "intercept"
	r := newRow(t, m, s, port)
	r.install(append([]string{"--run-as", "www-data"}, s.install...)...)
	page, _ := s.more["ready.path"].(string)
	if page == "" {
		page = "/"
	}
	if code, body := get(t, m, r.address, page); code != http.StatusOK {
		t.Fatalf("the first client is answered with %d %s", code, body)
	}
	r.gateway("reload") // returns when it is ready
	first := r.status()
	underLoad(t, m, r.address, page, 2*loops, func(l *load.Load) {
		for generation := first.Worker.Generation + 1; generation <= first.Worker.Generation+cmp.Or(s.restarts, 2); generation++ {
			r.gateway("restart")
			answered(t, l)
			now := r.status()
			if now.Verdict != "ok" || len(now.Problems) > 0 || now.Worker.Generation != generation || now.Worker.Handoff != "intercept" || now.Sockets[0].Inode != first.Sockets[0].Inode {
				t.Errorf("the status is %+v, want generation %d by intercept, the socket %d and no problem", now, generation, first.Sockets[0].Inode)
			}
			if exit := now.Worker.LastExit; exit.Signal == "SIGKILL" && !mayHang(s.name) {
				t.Errorf("generation %d has ended with %+v, want an end by itself", generation-1, exit)
			}
		}
		if s.again == "" {
			return
		}
		generation, pid := answeredBy(t, m, r.address)
		m.Run(t, "sh", "-euc", strings.ReplaceAll(r.fill(s.again), "PID", fmt.Sprint(pid)))
		if now := anotherAnswers(t, m, r.address, pid); now != generation {
			t.Fatalf("generation %d answers, want %d: its server was to be started again, not it", now, generation)
		}
	})
	if s.killed {
		launcher := r.status().Launcher.PID
		_, pid := answeredBy(t, m, r.address)
		m.Run(t, "kill", "-KILL", fmt.Sprint(launcher))
		anotherAnswers(t, m, r.address, pid) // systemd ends what the launcher has left, which serves until then
		m.Run(t, "test", "!", "-e", fmt.Sprintf("/proc/%d", pid))
	}
	r.gateway("stop")
	if left, err := m.Output("pgrep", "-a", "-f", "/srv/"+s.name); err == nil {
		t.Errorf("a stop has left\n%s", left)
	}
	r.gateway("uninstall", "--system")
}
