package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

const (
	// rootPath is a Debian 13 that has servers, and modulesPath what npm has, with Bun; ownPath has the programs of the tests.
	rootPath    = "/mnt"
	modulesPath = "/opt/servers/node_modules"
	ownPath     = "/usr/local/lib/servers"
	goPath      = "/usr/local/bin/bench-go"
)

// server is one that binds its address itself, as it comes. PORT in its command is its port.
type server struct {
	name, command string
	more          string // of the configuration
}

var servers = []server{
	{name: "Node.js", command: nodePath + " " + workerPath},
	{name: "Go, net/http", command: goPath},
	{name: "Python, ThreadingHTTPServer", command: "python3 " + ownPath + "/threads.py"},
	{name: "Java, com.sun.net.httpserver", command: "chroot " + rootPath + " java -cp /srv Plain"},
	{name: "nginx", command: "chroot " + rootPath + " nginx -p /srv -c /srv/PORT.conf", more: "stop: {signal: SIGQUIT}\n"},
	{name: "Bun.serve", command: modulesPath + "/.bin/bun " + ownPath + "/bun.js"},
}

// under is the server under a launcher with this restart.mode. What it does before it binds takes bootMS more, as that of an application.
func (s server) under(mode string, port, bootMS int) system {
	command := strings.ReplaceAll(s.command, "PORT", fmt.Sprint(port))
	delayed := []string{"sh", "-c", fmt.Sprintf("sleep %.3f; exec %s", float64(bootMS)/1000, command)}
	launched := underLauncher(s.name+", "+mode, fmt.Sprintf("%s-%d", mode, port), port, delayed, nil, "  handoff: intercept\n"+s.more+"restart: {mode: "+mode+"}\n")
	if conf, err := os.ReadFile("../servers/own/nginx.conf"); err == nil && s.name == "nginx" {
		// One worker process, so that each restart is another pid that answers.
		launched.files[fmt.Sprintf("%s/srv/%d.conf", rootPath, port)] = strings.NewReplacer("@PORT@", fmt.Sprint(port), "worker_processes 2", "worker_processes 1").Replace(string(conf))
	}
	return launched
}

// bootServers starts a machine that has them.
func bootServers(b *testing.B) *machine.Machine {
	program := filepath.Join(b.TempDir(), "go")
	build := exec.Command("go", "build", "-o", program, "../servers/own/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build the server in Go: %v\n%s", err, output)
	}
	own, err := filepath.Abs("../servers/own")
	if err != nil {
		b.Fatal(err)
	}
	m := boot(b, machine.Options{Binds: map[string]string{
		rootPath: required(b, "SERVERS_ROOT"), modulesPath: required(b, "SERVERS_MODULES"), ownPath: own, goPath: program,
	}})
	m.Run(b, "sh", "-euc", "cd "+rootPath+`
		for folder in srv tmp var/log var/lib/nginx; do mount -t tmpfs tmpfs $folder; done
		for folder in proc dev run; do mount --bind /$folder $folder; done
		mkdir var/log/nginx && cp `+ownPath+`/Plain.java srv
		chroot . javac -d /srv /srv/Plain.java`)
	return m
}

// handovers restarts servers of all kinds under the launcher, in both orders.
func handovers(b *testing.B, r *report) {
	m := bootServers(b)
	var systems []system
	for i, s := range servers {
		systems = append(systems, s.under("exclusive", 18840+2*i, bootMS), s.under("handover", 18841+2*i, bootMS))
	}
	t := trial{rounds: 3, times: 5}
	results, _, broken := t.measure(b, m, systems)
	table := table{
		title: "Any server: exclusive and handover",
		text: fmt.Sprintf("Each as it comes, by intercept, under load as above: %d restarts in each of %d runs, in turns. What it does before it binds its address "+
			"takes %d ms more than by itself. Whom Go and Java lose, in either order, their own stop has broken off; what Java still takes with handover is the first request in a cold JVM.", t.times, t.rounds, bootMS),
		head: []string{"server", "handover against exclusive", "longest wait, handover", "longest wait, exclusive", "lost, handover", "lost, exclusive", "restarts of each"},
	}
	for i, s := range servers {
		exclusive, handover := results[systems[2*i].name], results[systems[2*i+1].name]
		table.rows = append(table.rows, []string{
			s.name, ratio(handover.waits.median(), exclusive.waits.median()), handover.waits.String(), exclusive.waits.String(),
			losses(handover.lost), losses(exclusive.lost), fmt.Sprint(handover.restarts),
		})
		want := "ratio at most 0.10, nobody lost"
		if strings.HasPrefix(s.name, "Go,") {
			want = "below 3 ms, nobody lost"
		}
		r.aims = append(r.aims, aim{
			what: "handover by intercept: " + s.name, ratio: ratio(handover.waits.median(), exclusive.waits.median()), want: want,
			ours: handover.waits.String() + "; lost: " + losses(handover.lost), than: "exclusive: " + exclusive.waits.String(),
		})
	}
	r.tables = append(r.tables, table)
	mustHold(b, systems, broken)
}
