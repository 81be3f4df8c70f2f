package test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

// TestHandover: with restart.mode: handover a planned restart is one that no client notices, and that leaves nothing behind.
func TestHandover(t *testing.T) { inScopes(t, testHandover) }

// handed is a configuration of a server that ends as servers should, with this in its environment.
func handed(environment ...string) string {
	return worker(nodePath, workersPath+"/handed.js") + fmt.Sprintf("  environment: %s\nrestart: {mode: handover, backoff_min: 100ms}\nstop: {timeout: 20s}\n",
		asJSON(environment))
}

func asJSON(words []string) string {
	text, err := json.Marshal(append([]string{}, words...))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func testHandover(t *testing.T, here place) {
	options := machine.Options{}
	if !here.user {
		options.Binds = map[string]string{serversPath: required(t, "SERVERS_ROOT")}
	}
	m := here.boot(t, options)
	install(t, m.Scope, m, handed())
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	edit := func(t *testing.T, configuration string) (string, error) {
		t.Helper()
		m.WriteFile(t, configPath(m.Scope), configuration, 0o644)
		return m.Output(gatewayPath, "reload")
	}
	edited := func(t *testing.T, configuration string) {
		t.Helper()
		if output, err := edit(t, configuration); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		alone(t, m)
	}

	t.Run("again and again under load", func(t *testing.T) {
		m.Run(t, gatewayPath, "restart") // the first time it opens what it keeps
		alone(t, m)
		descriptors, changed := open(t, m), m.Property(t, service, "StateChangeTimestampMonotonic")
		times := here.scaled(20)
		underLoad(t, m, ipv4, "/", 0, func(l *load.Load) {
			for range times {
				old := gatewayStatus(t, m.Scope)
				m.Run(t, gatewayPath, "restart")
				answered(t, l)
				if now := gatewayStatus(t, m.Scope); now.Worker.Generation != old.Worker.Generation+1 || now.Worker.PID == old.Worker.PID {
					t.Fatalf("generation %d (pid %d) follows generation %d (pid %d)", now.Worker.Generation, now.Worker.PID, old.Worker.Generation, old.Worker.PID)
				}
			}
		})
		alone(t, m)
		if now := open(t, m); len(now) > len(descriptors) {
			t.Errorf("the launcher has the descriptors %v, and had %v", now, descriptors)
		}
		generation := gatewayStatus(t, m.Scope).Worker.Generation
		if want := []string{fmt.Sprintf("generation-%d", generation), "launcher"}; !slices.Equal(groupsOf(t, m), want) {
			t.Errorf("the control groups are %v, want %v", groupsOf(t, m), want)
		}
		if n := len(inService(t, m)); n != 2 {
			t.Errorf("%d processes are in the service, want the launcher and the worker: %v", n, inService(t, m))
		}
		late := false
		for _, life := range history(t, m) {
			if life.Generation == 1 {
				continue
			}
			if life.GateAfterMS == nil || life.ReleasedAfterMS == nil || life.ReadyAfterMS == nil {
				t.Fatalf("the history has %+v", life)
			}
			late = late || *life.ReadyAfterMS-*life.ReleasedAfterMS >= 1000
		}
		if now := m.Property(t, service, "StateChangeTimestampMonotonic"); now != changed && !late {
			t.Errorf("the service was not active all the time: its state changed at %s and %s", changed, now)
		}
	})

	t.Run("beside a long answer", func(t *testing.T) {
		old := gatewayStatus(t, m.Scope).Worker
		response := longAnswer(t, m)
		defer response.Body.Close()
		m.Run(t, gatewayPath, "restart")
		if _, body := get(t, m, ipv4, "/"); generationOf(body) != old.Generation+1 {
			t.Errorf("served by %q while the answer of generation %d is not complete", body, old.Generation)
		}
		s := wholeStatus(t, m)
		if len(s.Leaving) != 1 || s.Leaving[0].PID != old.PID || s.Leaving[0].Connections == nil || *s.Leaving[0].Connections != 1 ||
			s.Verdict != api.VerdictOK || s.Unit.ActiveState != "active" {
			t.Errorf("meanwhile the status is %+v", s)
		}
		if text, _ := m.Output(gatewayPath, "status"); !strings.Contains(text, "leaving") {
			t.Errorf("gateway status says nothing of it:\n%s", text)
		}
		if output, _ := m.Output(gatewayPath, "doctor"); strings.Contains(output, strconv.Itoa(old.PID)) {
			t.Errorf("gateway doctor finds something wrong with it:\n%s", output)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || generationOf(string(body)) != old.Generation || !strings.HasSuffix(string(body), "the end\n") {
			t.Errorf("the long answer is %q, %v", body, err)
		}
		alone(t, m)
	})

	t.Run("one that does not come to listen", func(t *testing.T) {
		old := gatewayStatus(t, m.Scope).Worker
		for configuration, wants := range map[string][]string{
			handed("FAIL_BESIDE=1"):                              {"ended before it listened", "restart.mode: exclusive"},
			handed("BOOT_MS=3600000") + "ready: {timeout: 2s}\n": {"it has not come to listen on"},
		} {
			underLoad(t, m, ipv4, "/", 0, func(l *load.Load) {
				output, err := edit(t, configuration)
				for _, want := range wants {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("gateway reload: %v, want %q\n%s", err, want, output)
					}
				}
				answered(t, l)
			})
			if s := gatewayStatus(t, m.Scope); s.Worker.PID != old.PID || s.Worker.State != "ready" || s.Config.State != "rejected" {
				t.Errorf("the status is %+v", s)
			}
		}
		if said := m.Journal(t, service); !strings.Contains(said, "worker started beside the one that serves") {
			t.Errorf("the journal does not say that there was another one:\n%s", said)
		}
		edited(t, handed())
	})

	t.Run("one with a second port", func(t *testing.T) {
		edited(t, handed("METRICS=9100"))
		underLoad(t, m, ipv4, "/", 0, func(l *load.Load) {
			for range 2 {
				m.Run(t, gatewayPath, "restart")
				answered(t, l)
			}
		})
		alone(t, m)
		s := gatewayStatus(t, m.Scope).Worker
		if _, body := get(t, m, "127.0.0.1:9100", "/"); generationOf(body) != s.Generation {
			t.Errorf("the second port is served by %q, the sockets by generation %d", body, s.Generation)
		}
	})

	t.Run("an old one that does not close", func(t *testing.T) {
		deaf := strings.Replace(handed("DEAF=1"), "timeout: 20s", "timeout: 1s", 1)
		edited(t, deaf)
		underLoad(t, m, ipv4, "/", loops, func(l *load.Load) {
			m.Run(t, gatewayPath, "restart")
			answered(t, l)
		})
		if exit := gatewayStatus(t, m.Scope).Worker.LastExit; exit == nil || exit.Signal != "SIGKILL" || exit.Reason != "restart" {
			t.Errorf("it ended by %+v", exit)
		}
	})

	t.Run("kill -9 of the launcher", func(t *testing.T) {
		edited(t, handed("BOOT_MS=3000"))
		old := gatewayStatus(t, m.Scope)
		underLoad(t, m, ipv4, "/", loops, func(l *load.Load) {
			m.Run(t, "/bin/sh", "-c", gatewayPath+" restart >/dev/null 2>&1 &")
			statusText(t, m.Scope, "is booting")
			next := wholeStatus(t, m).Successor
			if next == nil {
				t.Fatal("there is no successor")
			}
			kill(t, m, old.Launcher.PID)
			answered(t, l)
			for _, pid := range []int{old.Worker.PID, next.PID} {
				if slices.Contains(inService(t, m), pid) {
					t.Errorf("process %d is there still", pid)
				}
			}
		})
	})

	t.Run("kill -9 of the launcher when it is parked", func(t *testing.T) {
		edited(t, handed("DEAF=1"))
		old := gatewayStatus(t, m.Scope)
		underLoad(t, m, ipv4, "/", loops, func(l *load.Load) {
			m.Run(t, "/bin/sh", "-c", gatewayPath+" restart >/dev/null 2>&1 &")
			statusText(t, m.Scope, "is parked")
			next := wholeStatus(t, m).Successor
			if next == nil || next.State != api.SuccessorParked || next.Purpose != api.ForRestart {
				t.Fatalf("the successor is %+v", next)
			}
			kill(t, m, old.Launcher.PID)
			answered(t, l)
			gone(t, m, old.Worker.PID, next.PID)
		})
		kill(t, m, gatewayStatus(t, m.Scope).Worker.PID) // it hears no other signal
	})

	t.Run("kill -9 of the launcher when the old one leaves", func(t *testing.T) {
		edited(t, handed())
		old := gatewayStatus(t, m.Scope)
		underLoad(t, m, ipv4, "/", loops, func(l *load.Load) {
			response := longAnswer(t, m)
			defer response.Body.Close()
			m.Run(t, gatewayPath, "restart")
			s := wholeStatus(t, m)
			if len(s.Leaving) != 1 || s.Leaving[0].PID != old.Worker.PID {
				t.Fatalf("leaving are %+v", s.Leaving)
			}
			kill(t, m, old.Launcher.PID)
			answered(t, l)
			gone(t, m, old.Worker.PID, s.Worker.PID)
		})
	})

	t.Run("a standby", func(t *testing.T) {
		edited(t, handed("BOOT_MS=1000"))
		testStandby(t, m, edited, handed("BOOT_MS=1000"), loops)
		s := standby(t, m)
		if text, _ := m.Output(gatewayPath, "status"); !strings.Contains(text, "standby") || !strings.Contains(text, "parked and frozen") {
			t.Errorf("gateway status says nothing of it:\n%s", text)
		}
		if output, _ := m.Output(gatewayPath, "doctor"); strings.Contains(output, strconv.Itoa(s.Successor.PID)) {
			t.Errorf("gateway doctor finds something wrong with it:\n%s", output)
		}
		// For a planned restart a fresh one comes.
		m.Run(t, gatewayPath, "restart")
		now := standby(t, m)
		if now.Worker.Generation != s.Successor.Generation+1 || now.Worker.Restarts != s.Worker.Restarts+1 {
			t.Errorf("generation %d follows generation %d, which had generation %d for a standby; %d restarts follow %d",
				now.Worker.Generation, s.Worker.Generation, s.Successor.Generation, now.Worker.Restarts, s.Worker.Restarts)
		}
		gone(t, m, s.Worker.PID, s.Successor.PID)
		m.Systemctl(t, "daemon-reload")
		underLoad(t, m, ipv4, "/", loops, func(l *load.Load) {
			kill(t, m, now.Launcher.PID)
			answered(t, l)
			gone(t, m, now.Worker.PID, now.Successor.PID)
		})
		s = standby(t, m)
		m.Systemctl(t, "stop", socket, service)
		gone(t, m, s.Worker.PID, s.Successor.PID)
		m.Systemctl(t, "start", socket)
		get(t, m, ipv4, "/")
		edited(t, handed())
	})

	// One that hears nothing while it is stopped goes on to take its stop signal, and lets go of the sockets, or is killed.
	for name, environment := range map[string][]string{"a standby for one that hangs": nil, "a standby for one that hangs and is killed": {"DEAF=1"}} {
		t.Run(name, func(t *testing.T) {
			configuration := strings.NewReplacer("backoff_min: 100ms", "backoff_min: 100ms, reset_after: 0s, standby: true", "timeout: 20s", "timeout: 1s")
			edited(t, configuration.Replace(handed(environment...))+"alive: {queue: 2s, restart: true, stop_timeout: 1s}\n")
			s := standby(t, m)
			underLoad(t, m, ipv4, "/", loops, func(*load.Load) {
				stopProcess(t, m, s.Worker.PID)
				anotherAnswers(t, m, ipv4, s.Worker.PID)
			})
			if now := standby(t, m).Worker; now.Generation != s.Successor.Generation || now.PID != s.Successor.PID || now.LastExit.Reason != "hung" ||
				now.Restarts != s.Worker.Restarts+1 {
				t.Errorf("generation %d has hung beside its standby %+v, and the worker is %+v", s.Worker.Generation, s.Successor, now)
			}
			gone(t, m, s.Worker.PID)
			edited(t, handed())
		})
	}

	t.Run("stopped meanwhile", func(t *testing.T) {
		get(t, m, ipv4, "/")
		serving(t, m.Scope, 1)
		m.Run(t, "/bin/sh", "-c", gatewayPath+" restart >/dev/null 2>&1 &")
		statusText(t, m.Scope, "is booting")
		m.Systemctl(t, "stop", socket, service)
		if left := inService(t, m); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})

	t.Run("any server", func(t *testing.T) {
		servers := bindersOf(t, m)
		install(t, m.Scope, m, "listen: [\""+ipv4+"\"]\n"+handed())
		get(t, m, ipv4, "/")
		alone(t, m)
		for _, s := range servers {
			t.Run(s.name, func(t *testing.T) { testBinder(t, m, s, edited) })
		}
		for _, s := range servers[:2] {
			t.Run(s.name+", with a standby", func(t *testing.T) {
				edited(t, s.handed().yaml(t))
				testStandby(t, m, edited, s.handed().yaml(t), 3*loops)
			})
		}
	})
}

// binders are servers that bind their address themselves, as they come: one process and many, with the system's library and without.
var binders = []own{
	{name: "python", command: "python3 -m http.server --bind 127.0.0.1 18789"},
	{name: "go", command: "/srv/own/server"},
	{name: "nginx", command: "nginx -p /srv -c /srv/own/nginx.conf", more: settings{"stop.signal": "SIGQUIT"}},
	{name: "puma", command: "puma --bind tcp://127.0.0.1:18789 /srv/own/config.ru", more: settings{"stop.timeout": "5s"}},
	{name: "java", command: "java -cp /srv/own Plain"},
}

// bindersOf prepares those that this manager can run: root all of them, in a root directory that has them, and a user those that are a
// file, or on every machine.
func bindersOf(t *testing.T, m *machine.Machine) (servers []own) {
	t.Helper()
	folder := t.TempDir()
	build := exec.Command("go", "build", "-o", folder+"/server", "./servers/own/go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the server in Go: %v\n%s", err, output)
	}
	program, err := os.ReadFile(folder + "/server")
	if err != nil {
		t.Fatal(err)
	}
	if m.User != "" {
		m.As(m.System()).WriteFile(t, "/srv/own/server", string(program), 0o755)
		return binders[:2]
	}
	m.WriteFile(t, "/server", string(program), 0o755)
	for _, name := range []string{"nginx.conf", "config.ru", "Plain.java"} {
		content, err := os.ReadFile("servers/own/" + name)
		if err != nil {
			t.Fatal(err)
		}
		m.WriteFile(t, "/own/"+name, strings.ReplaceAll(string(content), "@PORT@", "18789"), 0o644)
	}
	m.Run(t, "sh", "-euc", "cd "+serversPath+`
		for folder in srv tmp var/log var/lib/nginx; do mount -t tmpfs tmpfs $folder; done
		for folder in proc dev run; do mount --bind /$folder $folder; done
		mkdir var/log/nginx srv/own && cp /own/* srv/own && cp /server srv/own/server
		chroot . javac -d /srv/own /srv/own/Plain.java`)
	for _, s := range binders {
		s.command = "chroot " + serversPath + " " + s.command
		servers = append(servers, s)
	}
	return servers
}

// serversPath is where the root directory with all servers is in the machine.
const serversPath = "/mnt"

// testBinder has an edit to such a server, and two restarts of it, be handovers: each has stood at its gate, and one that serves has been
// replaced by one.
func testBinder(t *testing.T, m *machine.Machine, s own, edited func(*testing.T, string)) {
	configuration := s.handed()
	first := gatewayStatus(t, m.Scope).Worker.Generation
	underLoad(t, m, ipv4, "/", 3*loops, func(l *load.Load) {
		edited(t, configuration.yaml(t))
		answered(t, l)
		for range 2 {
			m.Run(t, gatewayPath, "restart")
			answered(t, l)
		}
	})
	alone(t, m)
	now := gatewayStatus(t, m.Scope)
	if now.Worker.Generation != first+3 || now.Worker.Handoff != "intercept" || now.Verdict != "ok" || len(now.Problems) > 0 ||
		now.Worker.LastExit.Signal == "SIGKILL" && !mayHang(s.name) { // by itself, too, it hangs for good at a SIGTERM that comes while it boots, or within some 100 ms of that
		t.Errorf("the status is %+v, want generation %d by intercept", now, first+3)
	}
	for _, life := range history(t, m) {
		if life.Generation > first && (life.GateAfterMS == nil || life.ReleasedAfterMS == nil) {
			t.Errorf("generation %d has not stood at the gate: %+v", life.Generation, life)
		}
	}
	if want := []string{fmt.Sprintf("generation-%d", first+3), "launcher"}; !slices.Equal(groupsOf(t, m), want) {
		t.Errorf("the control groups are %v, want %v", groupsOf(t, m), want)
	}
}

// handed is the configuration of such a server.
func (s own) handed() settings {
	configuration := settings{
		"listen": []string{ipv4}, "worker.command": strings.Fields(s.command), "worker.handoff": "intercept",
		"restart.mode": "handover", "stop.timeout": "20s", "restart.backoff_min": "100ms",
		"worker.environment": []string{"PORT=18789", "HOME=/tmp", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	maps.Copy(configuration, s.more)
	return configuration
}

// standby waits for one that stands by, frozen.
func standby(t *testing.T, m *machine.Machine) api.Status {
	t.Helper()
	statusText(t, m.Scope, "; a standby is parked")
	for limit := time.Now().Add(bound); ; {
		s := wholeStatus(t, m)
		if next := s.Successor; next != nil && next.Purpose == api.ForStandby && next.State == api.SuccessorParked && next.Frozen {
			return s
		} else if time.Now().After(limit) {
			t.Fatalf("the standby is %+v", next)
		}
	}
}

// testStandby has a server that serves with this configuration crash with a standby beside it, which serves then, and another one stands by.
func testStandby(t *testing.T, m *machine.Machine, edited func(*testing.T, string), configuration string, lost int) {
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(configuration), &tree); err != nil {
		t.Fatal(err)
	}
	restart := tree["restart"].(map[string]any)
	restart["standby"], restart["reset_after"] = true, "0s"
	with, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	edited(t, string(with))
	for range 2 {
		s := standby(t, m)
		underLoad(t, m, ipv4, "/", lost, func(l *load.Load) {
			killed := time.Now()
			kill(t, m, s.Worker.PID)
			answered(t, l)
			t.Logf("served again at the latest %s after the kill", time.Since(killed).Round(time.Millisecond))
		})
		if now := standby(t, m).Worker; now.Generation != s.Successor.Generation || now.PID != s.Successor.PID || now.LastExit.Reason != "crash" ||
			now.Restarts != s.Worker.Restarts+1 {
			t.Errorf("generation %d has crashed beside its standby %+v, and the worker is %+v", s.Worker.Generation, s.Successor, now)
		}
		for _, life := range history(t, m) {
			if life.Generation == s.Successor.Generation && life.ReadyAfterMS != nil && life.ReleasedAfterMS != nil {
				t.Logf("from the end of the one that crashed until the standby serves: %d ms", *life.ReadyAfterMS-*life.ReleasedAfterMS)
			}
		}
	}
}

// gone wants that none of these processes is in the service any more.
func gone(t *testing.T, m *machine.Machine, pids ...int) {
	t.Helper()
	left := inService(t, m)
	for _, pid := range pids {
		if slices.Contains(left, pid) {
			t.Errorf("process %d is there still", pid)
		}
	}
}

// alone waits until there is one generation.
func alone(t *testing.T, m *machine.Machine) {
	t.Helper()
	m.WaitUnit(t, service, 2*bound, func(u machine.Unit) bool {
		return strings.Contains(u.StatusText, " serves ") && !strings.Contains(u.StatusText, "; generation ") && machine.Active(u)
	})
}

// longAnswer is one that has begun and takes some seconds, which a worker completes before it ends.
func longAnswer(t *testing.T, m *machine.Machine) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ipv4+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := m.HTTP().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// wholeStatus is all that the status tells: both of the generations, where there are two.
func wholeStatus(t *testing.T, m *machine.Machine) api.Status { return statusBy(t, m, gatewayPath) }

// statusBy is the same, by this program.
func statusBy(t *testing.T, m *machine.Machine, program string) api.Status {
	t.Helper()
	output, _ := m.Output(program, "status", "--json")
	var s api.Status
	if err := json.Unmarshal([]byte(output[strings.Index(output, "{"):]), &s); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return s
}

func history(t *testing.T, m *machine.Machine) []api.Life {
	t.Helper()
	var h api.History
	if output := m.Run(t, gatewayPath, "status", "--history", "--json"); json.Unmarshal([]byte(output), &h) != nil {
		t.Fatalf("gateway status --history --json: %s", output)
	}
	return h.Generations
}

// open are the descriptors of the launcher, without the timers that run for a while when clients have come.
func open(t *testing.T, m *machine.Machine) (targets []string) {
	t.Helper()
	launcher := process(t, m, gatewayStatus(t, m.Scope).Launcher.PID)
	folder := filepath.Join("/proc", strconv.Itoa(launcher.HostPID), "fd")
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(folder, entry.Name())); err == nil && target != "anon_inode:[timerfd]" {
			targets = append(targets, target)
		}
	}
	return targets
}

// inService are the processes of the service, by the pids of the machine.
func inService(t *testing.T, m *machine.Machine) (pids []int) {
	t.Helper()
	for _, process := range m.Processes(t) {
		if strings.Contains(process.Cgroup, "/"+service) {
			pids = append(pids, process.PID)
		}
	}
	return pids
}

// groupsOf are the control groups below that of the service.
func groupsOf(t *testing.T, m *machine.Machine) (names []string) {
	t.Helper()
	output := m.As(m.System()).Run(t, "/bin/sh", "-c", "cd /sys/fs/cgroup"+m.Property(t, service, "ControlGroup")+" && ls -d */")
	for name := range strings.FieldsSeq(output) {
		names = append(names, strings.TrimSuffix(name, "/"))
	}
	return names
}
